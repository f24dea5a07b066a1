"""Servers of a cluster in this process, and a server spoken by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Self

from streamd import Server
from streamd.config.models import Config, JetStreamConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from streamd.cluster.mesh import Cluster


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something that will come."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def member(
    server_name: str, *seeds: str, port: int = -1, client_port: int = -1, store: Path | None = None, **settings: Any
) -> Server:
    """A server with JetStream that logs under its name; `settings` are those of the cluster block."""
    jetstream = True if store is None else JetStreamConfig(store_dir=str(store))
    cluster = {"name": "C", "host": "127.0.0.1", "port": port, "routes": seeds, **settings}
    config = Config(host="127.0.0.1", port=client_port, server_name=server_name, jetstream=jetstream, cluster=cluster)  # type: ignore[arg-type]
    return Server(config, logger=logging.getLogger(f"streamd.{server_name}"))


def cluster_of(server: Server) -> Cluster:
    assert server.cluster is not None
    return server.cluster


def seed(server: Server) -> str:
    """Where others dial it."""
    return f"nats-route://127.0.0.1:{cluster_of(server).port}"


def names(server: Server) -> list[str]:
    """Of the servers it is connected to."""
    return sorted(peer.server_name for peer in cluster_of(server).peers.values())


def linked(server: Server) -> list[str]:
    """Names of the nodes it is linked to."""
    net = cluster_of(server).net
    assert net is not None
    return sorted(node.partition("#")[0] for node in net.linked())


async def meshed(*servers: Server) -> None:
    """Wait until each is connected and linked to all others."""
    everybody = sorted(server.name for server in servers)
    for server in servers:
        others = [name for name in everybody if name != server.name]
        await until(lambda server=server, others=others: names(server) == others == linked(server))  # type: ignore[misc]


class ByHand:
    """A server whose every line a test writes and reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def dial(cls, server: Server) -> AsyncIterator[Self]:
        """Connected, with nothing said."""
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster_of(server).port)
        yield cls(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    @classmethod
    @contextlib.asynccontextmanager
    async def listen(cls, port: int) -> AsyncIterator[asyncio.Queue[Self]]:
        """Connections from others, with nothing said."""
        dialed: asyncio.Queue[Self] = asyncio.Queue()
        writers: list[asyncio.StreamWriter] = []

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            dialed.put_nowait(cls(reader, writer))

        listener = await asyncio.start_server(accept, "127.0.0.1", port)
        yield dialed
        listener.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def connect(self, **fields: object) -> None:
        """Say CONNECT."""
        self.say("CONNECT " + json.dumps({"name": "NHAND", "cluster": "C", **fields}))

    def info(self, **fields: object) -> None:
        """Say INFO."""
        said = {"server_id": "NHAND", "server_name": "hand", "cluster": "C", "port": 1, "headers": True, **fields}
        self.say("INFO " + json.dumps(said))

    def say(self, line: str | bytes) -> None:
        self._writer.write((line.encode() if isinstance(line, str) else line) + b"\r\n")

    async def hear(self, start: str) -> str:
        """The next line that starts so; others are passed over. Errors: EOFError if the connection ends before."""
        async with asyncio.timeout(10):
            while True:
                line = await self._reader.readline()
                if not line:
                    raise EOFError(start)
                if line.startswith(start.encode()):
                    return line.decode().strip()

    async def ended(self) -> str:
        """What is said until the other side closes the connection."""
        async with asyncio.timeout(10):
            try:
                return (await self._reader.read()).decode()
            except ConnectionResetError:
                return ""

    def close(self) -> None:
        self._writer.close()
