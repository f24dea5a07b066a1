"""Holds what the channels of NATS Streaming hold against what the server promised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.checker import publishers, read
from tests.faults.stan_load import CHANNELS, stream
from tests.faults.wire import Wire

if TYPE_CHECKING:
    from tests.faults.stan_load import StanLoad


class StanChecker:
    """Reads on from where it last was; `whole` reads everything again."""

    def __init__(self, load: StanLoad) -> None:
        self._load = load
        self.stored: dict[str, dict[int, bytes]] = {channel: {} for channel in CHANNELS}

    async def check(self, port: int, *, whole: bool = False) -> list[str]:
        """What is wrong; [] if nothing."""
        faults = [fault for group in self._load.groups for fault in group.faults]
        for channel in CHANNELS:
            stored = self.stored[channel]
            if whole:
                stored.clear()
            async with await Wire.connect(port) as wire:
                info = await wire.api(f"STREAM.INFO.{stream(channel)}")
            if "error" in info:
                faults.append(f"{channel}: {info['error']}")
                continue
            last = info["state"]["last_seq"]
            # What is read now may only add to what was read before.
            stored.update(await read(port, stream(channel), max(stored, default=0) + 1, last))
            if list(stored) != list(range(1, last + 1)) or info["state"]["messages"] != len(stored):
                faults.append(f"{channel}: {len(stored)} messages read where the state is {info['state']}")
            faults += publishers(channel, stored)
            acked = self._load.ledger.acked[channel]
            lost = acked - set(stored.values())
            if lost:
                faults.append(f"{channel}: {len(lost)} of {len(acked)} acked are lost, such as {min(lost)[:30]!r}")
        for group in self._load.groups:
            stored = self.stored[group.channel]
            others = [sequence for sequence, payload in group.heard.items() if stored.get(sequence) != payload]
            if others:
                faults.append(f"{group.channel}: {len(others)} were heard and are not stored, such as {min(others)}")
        return faults
