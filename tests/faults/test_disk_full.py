"""A disk that fills up under a running server, and gets room again."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.checker import read
from tests.faults.wire import Wire
from tests.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

FULL = {"code": 500, "err_code": 10047, "description": "insufficient storage resources available"}
_PAYLOAD = 4000


async def publish(wire: Wire, number: int, stream: str = "S") -> dict[str, Any]:
    """The ack of one message, or the error."""
    payload = b"%d:" % number + b"." * _PAYLOAD
    answer: dict[str, Any] = json.loads((await wire.request(f"{stream}.x", payload, 30)).payload)
    return answer


async def fill(wire: Wire) -> dict[int, bytes]:
    """Publish until the disk is full: sequence → payload of all that was acked."""
    acked: dict[int, bytes] = {}
    for number in range(10_000):
        answer = await publish(wire, number)
        if "error" in answer:
            assert answer["error"] == FULL
            return acked
        acked[answer["seq"]] = b"%d:" % number + b"." * _PAYLOAD
    raise AssertionError("the disk never got full")


async def create(wire: Wire, name: str, **config: Any) -> dict[str, Any]:
    """The answer."""
    return await wire.api(f"STREAM.CREATE.{name}", name=name, subjects=[f"{name}.>"], **config)


async def test_full_disk_refuses_stored_publishes_and_nothing_else(tmp_path: Path, small_disk: Path) -> None:
    """The documented error; reads, core traffic, memory streams and acks of others go on; it recovers by itself."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    config = "jetstream { max_file: 1GB }"
    with ServerProcess(tmp_path, store=small_disk / "store", config=config) as server:
        async with await Wire.connect(server.port) as wire, await Wire.connect(server.port) as other:
            for name, storage in (("S", "file"), ("M", "memory")):
                assert "error" not in await create(wire, name, storage=storage)
            acked = await fill(wire)
            assert len(acked) > 100
            state = (await wire.api("STREAM.INFO.S"))["state"]
            assert (state["messages"], state["last_seq"]) == (len(acked), len(acked))

            assert await read(server.port, "S", 1, len(acked)) == acked
            direct = await wire.api("STREAM.MSG.GET.S", seq=7)
            assert direct["message"]["seq"] == 7
            other.subscribe("core")
            assert await other.alive()
            wire.publish("core", b"still here")
            message = await other.next()
            assert message is not None
            assert message.payload == b"still here"
            assert (await publish(wire, 1, "M"))["seq"] == 1
            assert (await publish(wire, 1))["error"] == FULL

            ballast.unlink()
            async with asyncio.timeout(30):
                while "error" in (answer := await publish(wire, 5)):
                    assert answer["error"] == FULL
            assert answer == {"stream": "S", "seq": len(acked) + 1}
            acked[answer["seq"]] = b"5:" + b"." * _PAYLOAD
        assert "no space left for the store" in server.log()
        assert "Traceback" not in server.log()
        server.kill()
        server.start()

        assert await read(server.port, "S", 1, len(acked)) == acked
        assert server.stop() == 0


async def test_server_starts_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """What is stored can be read."""
    with ServerProcess(tmp_path, store=small_disk / "store", config="jetstream { max_file: 1GB }") as server:
        async with await Wire.connect(server.port) as wire:
            assert "error" not in await create(wire, "S", storage="file")
            acked = await fill(wire)
        server.kill()
        server.start()
        async with await Wire.connect(server.port) as wire:
            assert (await publish(wire, 1))["error"] == FULL

        assert await read(server.port, "S", 1, len(acked)) == acked
        assert server.stop() == 0
