"""Connections that end, as the sockets see it."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import closing

import pytest

from streamd import Server
from streamd.config.models import Config
from tests.cluster.members import until

pytestmark = pytest.mark.anyio


async def test_stale_client_that_takes_nothing_is_cut_at_once() -> None:
    """What was written and hasn't left is not waited for: a machine that is dead takes it never, and says nothing."""
    config = Config(host="127.0.0.1", port=-1, ping_interval_ns=300_000_000, ping_max=1)
    async with Server(config) as server:
        assert server.core is not None
        core, loop = server.core, asyncio.get_running_loop()
        with closing(socket.socket()) as dead:
            dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            dead.setblocking(False)
            await loop.sock_connect(dead, ("127.0.0.1", server.port))
            await loop.sock_sendall(dead, b'CONNECT {"verbose":false}\r\nSUB x 1\r\n')
            await until(lambda: core.bus.publish("x", b"") == 1)
            (connection,) = core.connections.values()
            while not connection.transport.get_write_buffer_size():
                core.bus.publish("x", bytes(8192))
                core.bus.flush()

            # Less than what makes it a slow consumer.
            assert not connection._paused
            await until(lambda: core.num_connections == 0)
            assert (connection.reason, core.stale_connections, core.slow_consumers) == ("Stale Connection", 1, 0)


@pytest.mark.parametrize("turns", range(5))
async def test_client_that_comes_as_the_port_closes(turns: int) -> None:
    """It is told, if it was accepted, and never left to the garbage collector, which would warn."""
    async with Server(Config(host="127.0.0.1", port=-1)) as server:
        assert server.core is not None
        with closing(socket.create_connection(("127.0.0.1", server.port))) as late:
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.core.close()
            gc.collect()
            assert server.core.num_connections == 0
            if server.core.total_connections:
                assert late.recv(4096).startswith(b"INFO ")
    assert turns < 2 or server.core.total_connections == 1
