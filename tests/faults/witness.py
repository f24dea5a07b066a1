"""What shows that bad clients disturb nobody: a pair that talks all the time, and the memory of the process."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.process import ServerProcess

MB: Final = 1 << 20


def memory_bytes(server: ServerProcess) -> int:
    """What the process holds in RAM."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


@asynccontextmanager
async def undisturbed(server: ServerProcess) -> AsyncIterator[None]:
    """Beside the body a pair of clients talks all the time: every message arrives, and nothing fails in the server."""
    async with await Wire.connect(server.port) as sender, await Wire.connect(server.port) as receiver:
        receiver.subscribe("witness")
        assert await receiver.alive()
        done = asyncio.Event()
        count = 0

        async def talk() -> None:
            nonlocal count
            while not done.is_set() or count < 10:
                sender.publish("witness", b"%d" % count)
                message = await asyncio.wait_for(receiver.next(), 30)
                assert message is not None
                assert message.payload == b"%d" % count
                count += 1

        talking = asyncio.create_task(talk())
        try:
            yield
        finally:
            done.set()
            await talking
        assert sender.errors == receiver.errors == []
    assert server.process is not None
    assert server.process.poll() is None
    assert "Traceback" not in server.log()
    assert "failed" not in server.log()


async def throw(port: int, data: bytes, *, pieces: int = 1) -> bytes:
    """Send bytes, close, and take what comes until the server has closed as well."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    with contextlib.suppress(OSError):
        size = -(-len(data) // pieces) or 1
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(20):
            while chunk := await reader.read(1 << 16):
                received += chunk
    writer.transport.abort()
    return received
