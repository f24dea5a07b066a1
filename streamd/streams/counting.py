"""How many messages wait for a consumer, where the index can't tell: counted in pieces, so that the loop serves others between.

Guarantee:  whoever asks, a turn of the loop looks at about RECORDS_A_TURN records. What is few is counted at once; what is many
            counts as an upper bound until then.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from streamd._engine import CorruptRecord
from streamd.streams.records import SCAN_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from streamd.clock import Clock
    from streamd.streams.consumer import Consumer

RECORDS_A_TURN: Final = 2 * SCAN_RECORDS


class Counting:
    """All counts of a server, in turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: deque[PendingCount] = deque()
        self._left = RECORDS_A_TURN
        self._planned = False

    def take(self, count: PendingCount) -> None:
        """Count, at once if this turn has room for it. Errors: CorruptRecord, as long as it is counted here."""
        if self._under_way or not self._step(count):
            self._under_way.append(count)
        if not self._planned:
            self._planned = True
            self._clock.call_soon(self._turn)

    def _turn(self) -> None:
        self._planned, self._left = False, RECORDS_A_TURN
        while self._under_way and self._left > 0:
            count = self._under_way.popleft()
            try:
                whole = self._step(count)
            except CorruptRecord as error:
                count.consumer.stream.damaged(error)
                continue
            if not whole:
                self._under_way.append(count)
        if self._under_way and not self._planned:
            self._planned = True
            self._clock.call_soon(self._turn)

    def _step(self, count: PendingCount) -> bool:
        """Whether it is through."""
        while self._left > 0:
            looked_at = count.step()
            if looked_at is None:
                return True
            self._left -= looked_at
        return False


class PendingCount:
    """The count of one consumer, which is brought into `ConsumerState.num_pending`."""

    __slots__ = ("_again", "_behind", "_expected", "_known", "_steps", "_then", "consumer", "upto")

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        #: Up to this sequence everything is counted, or was taken from a count: what is behind it adds to that.
        self.upto = 0
        self._steps: Generator[int, None, int] | None = None
        #: What was taken as pending when the count began: deliveries and new messages since then change both alike.
        self._expected = 0
        self._known = False
        self._again = False
        self._then: list[Callable[[], None]] = []
        self._behind: list[Callable[[], None]] = []  # who asked since it is to be counted once more

    def when_counted(self, then: Callable[[], None]) -> None:
        """Call as soon as what is pending is known; at once if it is."""
        if self._steps is None:
            then()
        else:
            (self._behind if self._again else self._then).append(then)

    def begin(self, *, anew: bool = False) -> None:
        """Count. If that is under way it goes on, and is done once more behind it; `anew`: it is worth nothing any more.

        Errors: CorruptRecord.
        """
        consumer, under_way = self.consumer, self._steps is not None
        state, stream = consumer.state, consumer.stream
        ahead, from_seq = consumer.ordinary()
        count, exact = stream.state.pending(consumer.filters, from_seq)
        if exact:
            state.num_pending, self.upto = ahead + count, stream.state.last_seq
            self._again, self._known = False, True
            self._end()
            return
        if under_way and not anew:
            self._again = True
            return
        if anew or not self._known:
            state.num_pending, self.upto = ahead + stream.state.bounds(consumer.filters)[2], stream.committed_seq
        self._steps = self._count()
        if not under_way:
            stream.services.counting.take(self)

    def _count(self) -> Generator[int, None, int]:
        """Its first step may come long after `begin`: until then what is new adds to what was taken as pending."""
        consumer = self.consumer
        ahead, from_seq = consumer.ordinary()
        self._expected, self.upto = consumer.state.num_pending - ahead, consumer.stream.committed_seq
        return (yield from consumer.stream.count_pending(consumer.filters, from_seq))

    def step(self) -> int | None:
        """Count on. Returns how many records were looked at, None at the end. Errors: CorruptRecord."""
        state = self.consumer.state
        try:
            if self._steps is not None and not self.consumer.closed:
                return next(self._steps)
        except StopIteration as end:
            state.num_pending = max(state.num_pending + end.value - self._expected, 0)
            self._known = True
        except CorruptRecord:
            self._end()
            raise
        again, self._again = self._again and not self.consumer.closed, False
        self._end(again=again)
        if again:
            self.begin()
        return None

    def _end(self, *, again: bool = False) -> None:
        self._steps = None
        then, behind = self._then, self._behind
        self._then, self._behind = (behind, []) if again else ([], [])
        for call in then if again else [*then, *behind]:
            call()
