"""Clients that take too much or give nothing: bounded memory, and nothing at all for others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.faults.wire import CONNECT, Wire
from tests.faults.witness import MB, memory_bytes, throw, undisturbed
from tests.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(300)
async def test_a_million_subscriptions(process: ServerProcess) -> None:
    """One client, a million subjects: bounded and given back; others go on."""
    count = 1_000_000
    before = memory_bytes(process)
    used = []
    async with undisturbed(process):
        for _ in range(2):
            async with await Wire.connect(process.port) as wire:
                for start in range(0, count, 10_000):
                    wire.send(b"".join(b"SUB many.%d.x %d\r\n" % (n, n) for n in range(start, start + 10_000)))
                    await wire.writer.drain()
                assert await wire.alive(60)
                used.append(memory_bytes(process) - before)
                wire.send(b"PUB many.777777.x 2\r\nhi\r\n")
                message = await wire.next()
                assert message is not None
                assert message.subject == "many.777777.x"

    # Measured: 400 bytes a subscription to a subject of its own.
    assert used[0] < 600 * count
    assert used[1] < used[0] + 100 * MB


async def test_subscriptions_beyond_the_limit(tmp_path: Path) -> None:
    """Refused one by one, and the connection stays."""
    with ServerProcess(tmp_path, config="max_subscriptions: 10") as server:
        async with undisturbed(server), await Wire.connect(server.port) as wire:
            for number in range(12):
                wire.subscribe(f"s.{number}")
            await wire.next_error(2)

            assert wire.errors == ["-ERR 'maximum subscriptions exceeded'"] * 2
            assert await wire.alive()


async def test_half_open_client_is_cut(tmp_path: Path) -> None:
    """Who doesn't answer PING is gone; those who do stay."""
    with ServerProcess(tmp_path, config='ping_interval: "250ms"\nping_max: 2') as server:
        async with undisturbed(server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(CONNECT)
            async with asyncio.timeout(20):
                received = await reader.read(-1)
            writer.transport.abort()

        assert received.endswith(b"-ERR 'Stale Connection'\r\n")


async def test_slow_reader_is_cut(tmp_path: Path) -> None:
    """Who doesn't read costs max_pending and then nothing; the others get every message."""
    config = 'max_pending: 4MB\nmax_payload: 1MB\nwrite_deadline: "1s"'
    with ServerProcess(tmp_path, config=config) as server:
        async with (
            undisturbed(server),
            await Wire.connect(server.port) as sender,
            await Wire.connect(server.port) as reader,
        ):
            before = memory_bytes(server)
            reader.subscribe("flood")
            assert await reader.alive()
            slow = []
            for _ in range(10):
                wire = await Wire.connect(server.port)
                wire.subscribe("flood")
                assert await wire.alive()
                wire.stop_reading()
                slow.append(wire)
            peak = 0
            for number in range(1000):
                sender.publish("flood", b"%d" % number + b"." * 100_000)
                await sender.writer.drain()
                message = await asyncio.wait_for(reader.next(), 30)
                assert message is not None
                assert message.payload.startswith(b"%d." % number)
                peak = max(peak, memory_bytes(server) - before)
            for wire in slow:
                await wire.close()

        assert server.log().count("Slow Consumer") == 10
        assert peak < 10 * 4 * MB + 40 * MB


async def test_slow_reader_of_a_stream(tmp_path: Path) -> None:
    """A push consumer doesn't read the whole stream into memory for a client that takes nothing."""
    with ServerProcess(tmp_path, config="max_pending: 4MB\nmax_payload: 1MB") as server:
        async with (
            undisturbed(server),
            await Wire.connect(server.port) as wire,
            await Wire.connect(server.port) as slow,
        ):
            await wire.api("STREAM.CREATE.X", name="X", subjects=["x"])
            for _ in range(600):
                assert b'"seq"' in (await wire.request("x", b"." * 100_000)).payload
            before = memory_bytes(server)
            slow.subscribe("to.slow")
            assert await slow.alive()
            slow.stop_reading()
            config = {"deliver_subject": "to.slow", "ack_policy": "none"}
            assert "error" not in await wire.api("CONSUMER.CREATE.X", stream_name="X", config=config)
            for _ in range(200):
                assert "error" not in await wire.api("STREAM.INFO.X")

            assert memory_bytes(server) - before < 40 * MB


async def test_client_that_never_sends_connect(tmp_path: Path) -> None:
    """With authorization it has a moment, whatever it sends instead; its bytes are not kept."""
    config = "authorization { token: t, timeout: 1 }"
    with ServerProcess(tmp_path, config=config) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]
        halves = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in halves:
            writer.write(b"CONNECT {" + b" " * 3000)
        async with asyncio.timeout(20):
            answers = [await reader.read(-1) for reader, _ in (*silent, *halves)]
        for _, writer in (*silent, *halves):
            writer.transport.abort()

        assert all(answer.endswith(b"-ERR 'Authentication Timeout'\r\n") for answer in answers)
        early = await throw(server.port, b"PUB a 1\r\nx\r\n")
        assert early.endswith(b"-ERR 'Authorization Violation'\r\n")
        endless = await throw(server.port, b"CONNECT {" + b" " * 5_000)
        assert endless.endswith(b"-ERR 'maximum control line exceeded'\r\n")
        async with await Wire.connect(server.port, CONNECT.replace(b"{", b'{"auth_token":"t",')) as wire:
            assert await wire.alive()
        assert "Traceback" not in server.log()


async def test_thousand_idle_clients_without_connect(process: ServerProcess) -> None:
    """Without authorization they may stay, for a few KiB each."""
    before = memory_bytes(process)
    async with undisturbed(process):
        idle = [await asyncio.open_connection("127.0.0.1", process.port) for _ in range(1000)]
        for reader, _ in idle:
            assert (await reader.readline()).startswith(b"INFO {")

        assert memory_bytes(process) - before < 1000 * 32 * 1024
        for _, writer in idle:
            writer.transport.abort()
