"""streamd with a `streaming {}` block, and the Python client of NATS Streaming in an environment of its own.

To see that the tests themselves are right, STREAMD_STAN_PEER=1 plays them on nats-streaming-server instead.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks import peer_stan
from tests.stan import venv
from tests.stan.program import Language
from tests.stan.servers import StanPeer, StanServer
from tests.stan.stage import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def python_client() -> Language:
    """asyncio-nats-streaming, unmodified."""
    return python(venv.ready())


def python(interpreter: Path) -> Language:
    """asyncio-nats-streaming under an interpreter."""
    program = venv.HERE / "programs" / "client.py"
    return Language(
        "python",
        (str(interpreter), str(program)),
        "stan: failed connecting to '{cluster}'",
        {"PYTHONPATH": str(venv.SHIM), "PYTHONWARNINGS": "ignore"},
    )


@pytest.fixture(scope="session")
def make_server() -> Callable[[Path, str], StanServer]:
    """A STAN server that isn't started yet: (its directory, more lines of its streaming block)."""
    return streamd_or_peer()


def streamd_or_peer() -> Callable[[Path, str], StanServer]:
    """streamd, or what is to stand in its place."""
    if not os.environ.get("STREAMD_STAN_PEER"):
        return StanServer
    program = peer_stan.build()
    return lambda directory, streaming: StanPeer(program, directory, streaming)


@pytest.fixture(scope="session")
def shared_server(
    make_server: Callable[[Path, str], StanServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StanServer]:
    """The server of all scenarios that don't stop it and need no limits of their own."""
    with make_server(tmp_path_factory.mktemp("stan"), SHARED) as server:
        yield server
