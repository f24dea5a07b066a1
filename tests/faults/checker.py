"""Holds what a server serves against what it promised."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from tests.faults.load import CONSUMER, STREAMS
from tests.faults.wire import Wire

if TYPE_CHECKING:
    from tests.faults.load import Ledger


class Checker:
    """Reads on from where it last was; `whole` reads everything again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stored: dict[str, dict[int, bytes]] = {stream: {} for stream in STREAMS}

    async def check(self, port: int, *, whole: bool = False) -> list[str]:
        """What is wrong; [] if nothing."""
        faults = list(self._ledger.faults)
        for stream in STREAMS:
            stored = self._stored[stream]
            if whole:
                stored.clear()
            async with await Wire.connect(port) as wire:
                info = await wire.api(f"STREAM.INFO.{stream}")
                if "error" in info:
                    faults.append(f"{stream}: {info['error']}")
                    continue
                state = info["state"]
                # What is read now may only add to what was read before.
                start = max(stored, default=0) + 1
                stored.update(await read(port, stream, start, state["last_seq"]))
                if list(stored) != list(range(1, state["last_seq"] + 1)) or state["messages"] != len(stored):
                    faults.append(f"{stream}: {len(stored)} messages read where the state is {state}")
                faults += self._promises(stream, stored) + publishers(stream, stored)
                consumer = await wire.api(f"CONSUMER.INFO.{stream}.{CONSUMER}")
                if "error" in consumer:
                    faults.append(f"{stream}: {consumer['error']}")
                elif consumer["ack_floor"]["stream_seq"] < self._ledger.floor(stream):
                    faults.append(f"{stream}: ack floor {consumer['ack_floor']} below {self._ledger.floor(stream)}")
        return faults

    def _promises(self, stream: str, stored: dict[int, bytes]) -> list[str]:
        acked = self._ledger.acked[stream]
        lost = [sequence for sequence, payload in acked.items() if stored.get(sequence) != payload]
        return [f"{stream}: {len(lost)} of {len(acked)} acked are lost or others, from {min(lost)} on"] if lost else []

    def consumed(self) -> list[str]:
        """Messages that no consumer ever got."""
        faults = list(self._ledger.faults)
        for stream, stored in self._stored.items():
            never = stored.keys() - self._ledger.delivered[stream]
            if never:
                faults.append(f"{stream}: {len(never)} never delivered, such as {min(never)}")
        return faults


def publishers(stream: str, stored: dict[int, bytes]) -> list[str]:
    """Each publisher's numbers ascend, so none is there twice."""
    last: dict[bytes, int] = {}
    faults = []
    for sequence, payload in stored.items():
        name, number, _ = payload.split(b":", 2)
        if int(number) <= last.get(name, -1):
            faults.append(f"{stream} {sequence}: {name!r} {int(number)} behind {last[name]}")
        last[name] = int(number)
    return faults[:3]


async def read(port: int, stream: str, first: int, last: int) -> dict[int, bytes]:
    """Sequence → payload of all messages from first to last, by a push consumer without acks."""
    found: dict[int, bytes] = {}
    if first > last:
        return found
    async with await Wire.connect(port) as wire, asyncio.timeout(60):
        inbox = f"_READ.{stream}.{id(wire)}.{time.monotonic_ns()}"
        wire.subscribe(inbox)
        wire.subscribe("_READY")
        config = {
            "deliver_subject": inbox,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "inactive_threshold": 10**9,
        }
        request = json.dumps({"stream_name": stream, "config": config}).encode()
        wire.publish(f"$JS.API.CONSUMER.CREATE.{stream}", request, "_READY")
        sequence = 0
        while sequence < last:
            message = await wire.next()
            assert message is not None, wire.errors
            if message.subject == "_READY":
                assert b'"error"' not in message.payload, message.payload
                continue
            sequence = int(message.reply.split(".")[-4])
            assert sequence not in found
            found[sequence] = message.payload
    return found
