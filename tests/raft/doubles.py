"""Time and disks for tests, from a seed: a heap of events, a clock a node, a disk with a group commit in front of it.

A crash takes what is not on the disk; a commit that was under way is there whole or not at all.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamd.errors import StoreFull
from streamd.raft import Storage
from streamd.store import LogWork, Outcome, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import Records
    from streamd.errors import StoreError
    from streamd.raft.storage import Job

MS: Final = 1_000_000
#: What a disk without room says.
FULL: Final = StoreFull(Path("full"))


class World:
    """Time, and what is to happen."""

    def __init__(self, seed: int) -> None:
        self.now_ns = 0
        self.rng = random.Random(seed)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._numbers), call))

    def run(self, duration_ns: int, until: Callable[[], object] | None = None) -> bool:
        """Let time pass; stop early if `until` holds. Returns whether it does."""
        end = self.now_ns + duration_ns
        while self._events and self._events[0][0] <= end:
            if until is not None and until():
                return True
            self.now_ns, _, call = heapq.heappop(self._events)
            call()
        self.now_ns = end
        return until is None or bool(until())


class _Timer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class NodeClock:
    """The clock of one life of a node."""

    def __init__(self, world: World, skew_ns: int) -> None:
        self._world = world
        self._skew_ns = skew_ns
        self.alive = True

    def now_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self._world.now_ns

    def monotonic_ns(self) -> int:
        return self._world.now_ns + self._skew_ns

    def call_later(self, delay_ns: int, call: Callable[[], None]) -> _Timer:
        timer = _Timer()

        def happen() -> None:
            if self.alive and not timer.cancelled:
                call()

        self._world.later(max(delay_ns, 0), happen)
        return timer

    def call_soon(self, call: Callable[[], None]) -> None:
        self.call_later(0, call)


@dataclass
class Stream:
    """A stream on a disk."""

    records: dict[int, bytes] = field(default_factory=dict)
    states: dict[int, bytes] = field(default_factory=dict)


class StreamDouble:
    """A `StreamLog` over it."""

    def __init__(self, number: int, stream: Stream) -> None:
        self._number = number
        self._stream = stream

    def of(self, work: Work) -> LogWork:
        return work.of(self._number)

    def append(self, work: Work, records: Records) -> None:
        self.of(work).appends.append(records)

    def truncate_from(self, work: Work, sequence: int) -> None:
        part = self.of(work)
        assert not part.appends
        part.truncate_from = sequence

    def keep_from(self, work: Work, sequence: int) -> None:
        self.of(work).keep_from = sequence

    def read(self, from_seq: int, limit: int = 4096, bytes_max: int = 4 << 20) -> list[bytes]:
        found: list[bytes] = []
        for sequence in sorted(number for number in self._stream.records if number >= from_seq)[:limit]:
            value = self._stream.records[sequence]
            bytes_max -= len(value)
            if bytes_max < 0 and found:
                break
            found.append(value)
        return found


class Disk:
    """What survives a node, and the group commit in front of it."""

    def __init__(self, world: World, numbers: dict[str, int]) -> None:
        self._world = world
        self._numbers = numbers
        self.streams: dict[str, Stream] = {}
        self.latency_ns = (MS // 2, 2 * MS)
        self.failing: StoreError | None = None
        self.works: list[Work] = []
        self._jobs: list[Job] = []
        self._flying: Work | None = None
        self.clock: NodeClock | None = None

    def stream(self, group: str) -> Stream:
        return self.streams.setdefault(group, Stream())

    def storage(self, group: str) -> Storage:
        stream = self.stream(group)
        number = self._numbers.setdefault(group, len(self._numbers) + 1)
        return Storage(StreamDouble(number, stream), dict(stream.states))

    def at_rest(self, job: Job) -> None:
        self._jobs.append(job)
        assert self.clock is not None
        if self._flying is None:
            self.clock.call_soon(self._run)

    def settle(self) -> None:
        """Commit what waits, in place."""
        land = self._take_off()
        if land is not None:
            land()

    def _run(self) -> None:
        land = self._take_off()
        if land is not None:
            assert self.clock is not None
            self.clock.call_later(self._world.rng.randint(*self.latency_ns), land)

    def _take_off(self) -> Callable[[], None] | None:
        """Begin a commit, if none is under way and something waits. Returns what ends it."""
        if self._flying is not None or not self._jobs:
            return None
        jobs, self._jobs = self._jobs, []
        work = Work()
        after = [call for job in jobs if (call := job(work)) is not None]
        self._flying = work

        def land() -> None:
            self._flying = None
            outcome = Outcome(work, self.failing)
            if outcome.error is None:
                self._apply(work)
            for call in after:
                call(outcome)
            self._run()

        return land

    def _apply(self, work: Work) -> None:
        names = {number: name for name, number in self._numbers.items()}
        self.works.append(work)
        for number, part in work.logs.items():
            stream = self.stream(names[number])
            records = stream.records
            if part.truncate_from:
                for sequence in [s for s in records if s >= part.truncate_from]:
                    del records[sequence]
            for appended in part.appends:
                records.update((int.from_bytes(name, "big"), value) for name, value in appended)
            for sequence in [s for s in records if s < part.keep_from]:
                del records[sequence]
            stream.states.update(part.consumer_states)

    def crash(self, *, lucky: bool | None = None) -> None:
        """What was under way is there, or not."""
        work, self._flying, self._jobs = self._flying, None, []
        lucky = self._world.rng.random() < 0.5 if lucky is None else lucky
        if work is not None and lucky:
            self._apply(work)
