"""The pinned nats-server and `nats` command line beside streamd, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from benchmarks import peer_stan
from benchmarks.peer import build
from benchmarks.server import Server, Software
from benchmarks.wire import BenchError
from tests.interop.raw import Session, difference
from tests.interop.stan_raw import StanPair
from tests.stan.conftest import streamd_or_peer
from tests.stan.servers import StanPeer
from tests.stan.stage import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """nats-server and streamd, started with the same configuration."""

    peer: Server
    ours: Server

    def compare(self, program: Callable[[Session], None]) -> list[str]:
        """Run a program on both at once, from no streams to no streams. Returns where they differ."""

        def run(server: Server) -> list[str]:
            session = Session(server.port)
            try:
                program(session)
                return session.told()
            finally:
                session.close()
                clean(server.port)

        with ThreadPoolExecutor(2) as pool:
            theirs, ours = pool.map(run, (self.peer, self.ours))
        pairs = zip(theirs, ours, strict=False)
        wrong = [difference(one, other) for one, other in pairs if one != other]
        if len(theirs) != len(ours):
            wrong.append(f"{len(theirs)} lines from nats-server, {len(ours)} from streamd")
        return wrong


def clean(port: int) -> None:
    """Delete all streams."""
    session = Session(port)
    for name in session.api("STREAM.NAMES")["streams"] or []:
        session.api(f"STREAM.DELETE.{name}")
    session.close()


@pytest.fixture(scope="session")
def programs() -> Path:
    """The directory of the built `nats-server` and `nats`."""
    try:
        return build().parent
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"nats-server and the nats command line of benchmarks/peer/go.mod can't be built: {error}")


@pytest.fixture(scope="session")
def pair(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both servers with JetStream on stores of their own, shared by the whole run."""
    home = tmp_path_factory.mktemp("pair")
    peer = Software("nats-server", (str(programs / "nats-server"),))
    ours = Software("streamd", (sys.executable, "-m", "streamd"))
    with (
        Server(peer, home / "peer", jetstream=True) as one,
        Server(ours, home / "ours", jetstream=True) as other,
    ):
        yield Pair(one, other)


@pytest.fixture(scope="session")
def stan_program() -> Path:
    """The built nats-streaming-server."""
    try:
        return peer_stan.build()
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"nats-streaming-server of benchmarks/stan_peer/go.mod can't be built: {error}")


@pytest.fixture(scope="session")
def stan_pair(stan_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StanPair]:
    """Both STAN servers, shared by all raw sessions: each has names of its own."""
    home = tmp_path_factory.mktemp("stan_pair")
    with (
        StanPeer(stan_program, home / "peer", SHARED) as peer,
        streamd_or_peer()(home / "ours", SHARED) as ours,
    ):
        yield StanPair(peer, ours)
