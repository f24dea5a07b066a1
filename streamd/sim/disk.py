"""The disk of a machine: the real store, whose commits take a while and may not survive.

Guarantee:  what was reported as durable is there after a crash, unless bytes were flipped; of what wasn't, the beginning may
            be there, work by work.
Model:      a commit reaches the files when its virtual fsync ends, so the files are at any moment what a crash leaves. A crash
            then adds a random part of the commits under way, and sometimes a torn entry behind the journal or a flipped bit
            anywhere. The files lie in RAM; LMDB and the journal do all that they do on a disk.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from streamd.errors import StoreFull
from streamd.sim.clock import MS
from streamd.store import Environment, Writer
from streamd.store.directory import DATA_FILE, JOURNAL_FILE
from streamd.store.writer import Group

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from streamd.sim.clock import NodeClock

#: How long an fsync takes, and one in ten.
SYNC_MS = (0.5, 4.0)
SLOW_SYNC_MS = (10.0, 80.0)
SECTOR_BYTES = 512
#: Places that a flip changes.
DAMAGES_MAX = 6
#: Address space of a small store; it grows like any other.
MAP_BYTES = 16 << 20


class SimWriter(Writer):
    """`Writer` whose thread is the virtual time: one commit under way, what comes meanwhile makes the next. Some small ones are
    made in place."""

    def __init__(self, disk: Disk, environment: Environment, clock: NodeClock) -> None:
        super().__init__(environment, seconds=lambda: clock.monotonic_ns() / 1e9)
        self._disk = disk
        self._clock = clock
        self._in_line = False

    def settle(self) -> None:
        """The disk is as fast as it must be: what was submitted is done when this returns."""
        while self.busy:
            self._sync()

    def _hand_over(self, group: Group) -> None:
        delay_ns = self._disk.sync_ns()
        strike, self._disk.strike = self._disk.strike, None
        if strike is not None:
            self._clock.call_later(self._disk.part_of(delay_ns), strike)
        self._clock.call_later(delay_ns, lambda: self._sync(group))

    def _in_place(self, group: Group) -> bool:
        return super()._in_place(group) and self._disk.strike is None and self._disk.is_quick()

    def _sync(self, group: Group | None = None) -> None:
        """The fsync of the commit under way has ended; of another one: it was settled before."""
        flying = self._flying
        if flying is None or group not in (None, flying):
            return
        self._commit(flying)
        if flying.entry is not None:
            self._clock.call_later(1000 * MS, self._take_over)
        self._landed = flying
        self._land()

    def _commit(self, group: Group) -> None:
        if self._disk.full:
            group.error = StoreFull(self.environment.directory)
            self._disk.counts["commits refused, disk full"] += 1
            return
        super()._commit(group)
        if group.error is None:
            self._disk.written(work for work, _ in group.works)

    def power_off(self, rng: random.Random) -> int:
        """The process and the page cache are gone. Returns how many works are lost."""
        flying, self._flying = self._flying, None
        works = [*(flying.works if flying is not None else ()), *self._waiting]
        self._waiting.clear()
        if self._disk.full or self.failed is not None or not works:
            return len(works)
        kept = rng.randint(0, len(works))
        group = Group()
        group.works = works[:kept]
        if kept:
            group.entry = self._entry(group)
            self._commit(group)
            if group.error is not None:
                return len(works)
        journal = self.environment.journal
        if kept < len(works) and journal is not None and rng.random() < 0.3:
            torn = Group()
            torn.works = works[kept : kept + 1]
            entry = self._entry(torn)
            if entry is not None:
                self._disk.counts["entries torn"] += 1
                end = rng.randrange(len(entry))
                # What was there before could complete it.
                journal.append(entry[:end] + bytes([entry[end] ^ 0xFF]))
        return len(works) - kept


class Disk:
    """What of a machine survives a crash."""

    def __init__(self, directory: Path, rng: random.Random, counts: Counter[str]) -> None:
        self.directory = directory
        self.counts = counts
        self.full = False
        self.flipped = False  # a bit since the last `wipe`
        self.strike: Callable[[], None] | None = None  # is called in the middle of the next, slow fsync
        self.written: Callable[..., None] = lambda works: None  # is told what has become durable
        self._rng = rng
        self._environment: Environment | None = None
        self._writer: SimWriter | None = None

    def sync_ns(self) -> int:
        """How long the next fsync takes."""
        slow = self.strike is not None or self._rng.random() < 0.1
        return int(self._rng.uniform(*(SLOW_SYNC_MS if slow else SYNC_MS)) * MS)

    def is_quick(self) -> bool:
        """Whether the next one takes no time at all."""
        return self._rng.random() < 0.3

    def part_of(self, delay_ns: int) -> int:
        """A moment within a delay."""
        return int(self._rng.random() * delay_ns)

    def start(self, clock: NodeClock) -> tuple[Environment, SimWriter]:
        """Open what is there. Errors: StoreError, if bytes were flipped."""
        environment = self._environment = Environment.open(self.directory, map_bytes=MAP_BYTES)
        writer = self._writer = SimWriter(self, environment, clock)
        return environment, writer

    def stop(self, *, flip: bool = False) -> None:
        """The process ends here and now; the files are what a power cut leaves of them."""
        if self._writer is not None:
            self.counts["works lost"] += self._writer.power_off(self._rng)
        if self._environment is not None:
            self._environment.close()
        self._writer = self._environment = self.strike = None
        if flip:
            self._flip()

    def wipe(self) -> None:
        """An empty disk takes its place."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.full = self.flipped = False

    def _flip(self) -> None:
        """Some bits, or some sectors, somewhere in what the store wrote; much of that is of no use any more."""
        rng = self._rng
        name = JOURNAL_FILE if rng.random() < 0.2 else DATA_FILE
        with (self.directory / name).open("r+b") as file:
            size = len(file.read().rstrip(b"\0"))
            for _ in range(rng.randint(1, DAMAGES_MAX)):
                if rng.random() < 0.5:
                    at = rng.randrange(size)
                    byte = os.pread(file.fileno(), 1, at)[0]
                    os.pwrite(file.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), at)
                else:
                    at = rng.randrange(0, size, SECTOR_BYTES)
                    os.pwrite(file.fileno(), rng.randbytes(SECTOR_BYTES), at)
        self.flipped = True
        self.counts["stores flipped"] += 1
