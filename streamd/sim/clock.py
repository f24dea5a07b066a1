"""Virtual time: one queue of calls, and each node's view of it.

Guarantee:  calls happen by time, and at one time in the order they were asked for; nothing of a node that has ended happens;
            a node that is paused does later, and in the same order, what it would have done meanwhile.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
#: The world begins here.
BEGIN_NS: Final = 1_700_000_000 * SECOND
#: More calls than any moment causes: something goes round in circles.
CALLS_MAX: Final = 200_000


class Call:
    """A call at a moment."""

    __slots__ = ("call", "life")

    def __init__(self, call: Callable[[], None], life: Life | None) -> None:
        self.call: Callable[[], None] | None = call
        self.life = life

    def cancel(self) -> None:
        """Forget it."""
        self.call = None


class Life:
    """A process: it runs, it may be stopped for a while, it ends."""

    __slots__ = ("over", "paused_until_ns")

    def __init__(self) -> None:
        self.over = False
        self.paused_until_ns = 0


class Time:
    """The one time of a world, in nanoseconds since it began."""

    def __init__(self) -> None:
        self.now_ns = 0
        #: When it happens, when it was to happen (earlier, if its life was paused then), in which order it was asked for.
        self._queue: list[tuple[int, int, int, Call]] = []
        self._number = 0

    def at(self, time_ns: int, call: Callable[[], None], life: Life | None = None) -> Call:
        """Call at a time, now if it is past; not if that life is over by then."""
        planned = Call(call, life)
        due_ns = max(time_ns, self.now_ns)
        self._number += 1
        heapq.heappush(self._queue, (due_ns, due_ns, self._number, planned))
        return planned

    def after(self, delay_ns: int, call: Callable[[], None], life: Life | None = None) -> Call:
        """Call after a delay."""
        return self.at(self.now_ns + delay_ns, call, life)

    def run(self, until_ns: int) -> None:
        """Let time pass. Errors: Violation if a moment never ends; whatever a call raises."""
        calls = 0
        while self._queue and self._queue[0][0] <= until_ns:
            time_ns, due_ns, number, planned = heapq.heappop(self._queue)
            if planned.call is None:
                continue
            life = planned.life
            if life is not None:
                if life.over:
                    continue
                if life.paused_until_ns > time_ns:
                    heapq.heappush(self._queue, (life.paused_until_ns, due_ns, number, planned))
                    continue
            calls = calls + 1 if time_ns == self.now_ns else 0
            if calls > CALLS_MAX:
                raise Violation(f"a moment never ends: {planned.call}")
            self.now_ns = time_ns
            call, planned.call = planned.call, None
            call()
        self.now_ns = until_ns

    def resume(self, life: Life) -> None:
        """A pause ends now: what it held back comes before anything that happens from now on."""
        life.paused_until_ns = self.now_ns
        self._queue = [
            (max(due_ns, self.now_ns) if planned.life is life else time_ns, due_ns, number, planned)
            for time_ns, due_ns, number, planned in self._queue
        ]
        heapq.heapify(self._queue)


class NodeClock:
    """The `Clock` of one life of a node: its wall clock is off by something that may jump, its timers are right."""

    def __init__(self, time: Time, life: Life, offset_ns: int = 0) -> None:
        self._time = time
        self._life = life
        self.offset_ns = offset_ns

    @property
    def running(self) -> bool:
        """Whether the process runs now."""
        return not self._life.over and self._life.paused_until_ns <= self._time.now_ns

    def now_ns(self) -> int:
        """The time on this node's wall."""
        return BEGIN_NS + self._time.now_ns + self.offset_ns

    def monotonic_ns(self) -> int:
        """Time that never jumps."""
        return self._time.now_ns

    def call_later(self, delay_ns: int, call: Callable[[], None]) -> Call:
        """Call once after a delay."""
        return self._time.at(self._time.now_ns + delay_ns, call, self._life)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call once everything that is ready now has run."""
        self._time.at(self._time.now_ns, call, self._life)
