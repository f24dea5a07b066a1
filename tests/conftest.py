"""What every test may use: a server in this process, a client of it, and a server as a process of its own."""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import nats
import pytest
from hypothesis import settings

from streamd import Server
from tests.process import ServerProcess
from tests.store import fuse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nats.aio.client import Client

# How long an example takes says something of the machine, and of what else it does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under `make soak` a test that could not run is a failure; `-rs` lists it with its reason."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("STREAMD_SOAK") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _Mishaps(logging.Handler):
    """Hears of what was raised where nothing should be, and was survived."""

    def __init__(self) -> None:
        super().__init__(logging.CRITICAL)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.getMessage().startswith(("JetStream: ", "RAFT: ")):
            self.found.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def no_mishaps(request: pytest.FixtureRequest) -> Iterator[None]:
    """A mistake that a server survives is one all the same."""
    handler = _Mishaps()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    if request.node.get_closest_marker("mishaps") is None:
        assert not handler.found, "\n".join(handler.found)


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def server(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with JetStream on a store of its own, on a free port."""
    logging.getLogger("streamd").setLevel(logging.DEBUG)
    async with Server() as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """A connected nats-py client."""
    connection = await nats.connect(server.client_url, allow_reconnect=False)
    yield connection
    await connection.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ServerProcess]:
    """A started `streamd` process with JetStream under tmp_path."""
    with ServerProcess(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def _fuse_missing(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fuse.unavailable(tmp_path_factory.mktemp("mount"))


@pytest.fixture
def fuse_mounts(_fuse_missing: str) -> None:
    """The test mounts a file system of its own."""
    if _fuse_missing:
        pytest.skip(_fuse_missing)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory with 8 MiB of room, in RAM."""
    directory = tmp_path / "disk"
    directory.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, b"size=8m"):
        pytest.skip(f"no tmpfs can be mounted here: {os.strerror(ctypes.get_errno())}")
    yield directory
    libc.umount2(os.fsencode(directory), 2)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What Python calls `fsync` for, files and directories, as it happens."""
    found: list[Path] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        found.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr(os, "fsync", noted)
    return found
