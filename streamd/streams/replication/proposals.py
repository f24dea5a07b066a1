"""What the leader of a group puts into its log: publishes that wait in taps, rows, states, removals.

Place in the walk: taps and handlers → here → the group → replica.
Guarantee:  an entry is proposed as soon as fewer than `UNDER_WAY_MAX` are on their way; what comes meanwhile shares the next
            one. Whoever asked hears of the outcome when this server's replica has applied the entry, or that it isn't known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from streamd import limits
from streamd.api.errors import NOT_AVAILABLE
from streamd.errors import LeadershipLost
from streamd.raft.errors import NotLeader, Overloaded
from streamd.raft.group import PREFIX
from streamd.streams.commits import BACK_TO_BACK_NS
from streamd.streams.replication import ops
from streamd.streams.replication.lately import Lately
from streamd.streams.replication.ops import Op
from streamd.streams.sources import Held

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import AckOutcome, Batch
    from streamd.api.errors import ApiError
    from streamd.clock import Timer
    from streamd.errors import StoreError
    from streamd.store import Outcome, Work
    from streamd.streams.changes import After, Change
    from streamd.streams.consumer import Consumer
    from streamd.streams.reader import Saved
    from streamd.streams.replication.replica import Replica
    from streamd.streams.sources import Source
    from streamd.streams.stream import Stream

#: Entries on their way: while one is applied, the next is acknowledged, one is written and one sent.
UNDER_WAY_MAX: Final = 4
#: An entry holds about this much at most, but for a single message that is bigger.
ENTRY_BYTES_MAX: Final = 1 << 20
#: Publishes that go into one call to another server.
PASS_BYTES: Final = 1 << 20
#: States of consumers are proposed at least so far apart, unless something else is proposed or somebody waits.
SAVE_PAUSE_NS: Final = 20_000_000


@dataclass(slots=True)
class Pending:
    """An entry on its way, and who waits for it."""

    term: int
    publishes: list[tuple[Stream, Batch]] = field(default_factory=list)
    afters: list[After] = field(default_factory=list)
    finish: Callable[[tuple[Any, ...], StoreError | None], None] | None = None
    confirmations: list[tuple[Consumer, AckOutcome]] = field(default_factory=list)
    freezes: bool = False  # a stream: what is proposed behind it may be for that one


@dataclass(slots=True)
class _Light:
    ops: list[Op]
    after: After


@dataclass(slots=True)
class _Alone:
    op: Op
    finish: Callable[[tuple[Any, ...], StoreError | None], None]


class Proposals:
    """The way of changes for the streams of one group, while this server leads it."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._commits = replica.services.commits
        self._clock = replica.services.clock
        self._sources: deque[Source] = deque()
        self._queue: deque[_Light | _Alone] = deque()
        self._expiries: dict[int, Callable[[], None]] = {}  # by uid: what is done once its old messages have gone
        self._expired = False  # the last entry was of these
        self._freezing = False  # an entry that freezes a stream is on its way
        self._saves: dict[Saved, None] = {}
        self._confirmations: list[tuple[Consumer, AckOutcome]] = []
        self._save_timer: Timer | None = None
        self._under_way: dict[int, Pending] = {}
        self._time_ns = 0
        self._settled_ns = 0  # when the last entry was settled
        self._leadership = 0  # how many have ended here
        self._planned = False
        self._gathering = False
        self.lately = Lately(self._clock)

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        waits = self._sources or self._queue or self._expiries or self._saves or self._confirmations
        return not (waits or self._under_way or self._planned)

    @property
    def _waits(self) -> bool:
        """Whether there is something to propose now."""
        due = self._save_timer is None and self._saves
        return bool(self._sources or self._queue or self._expiries or self._confirmations or due)

    # what others ask for

    def ready(self, source: Source) -> None:
        """Publishes wait."""
        self._sources.append(source)
        if self._gathering:
            return  # it had more than the entry that is being made takes: the next one follows at once, behind this
        busy = self._planned or self._under_way or not self._replica.leading
        if busy or self._clock.monotonic_ns() - self._settled_ns <= BACK_TO_BACK_NS:
            self._plan()
        else:
            # Somebody publishes and waits: the next iterations of the loop would only add their delay.
            self._propose_now()

    def filling(self, source: Source) -> None:
        """An entry takes what waits when it is proposed, not before."""

    def begin(self, term: int, publishes: list[tuple[Stream, Batch]]) -> None:
        """This server leads from now on, and has kept publishes from the term that it led before."""
        self.lately.reached(self._replica.group.term)
        self._sources.extendleft(Held(stream, batch) for stream, batch in reversed(self.unproposed(term, publishes)))

    def passed(self, term: int, publishes: list[tuple[Stream, Batch]]) -> None:
        """Publishes came to the leader of an earlier term: those that didn't come to any after it are for this one."""
        if not self.lately.known:
            return
        waiting = self.forget_sources()
        left = []
        for stream, batch in publishes:
            had = [own for other, own in waiting if other is stream]
            left.append((stream, batch.without([*self.lately.of(stream.uid, term), *had])))
        self._sources.extend(Held(stream, batch) for stream, batch in [*left, *waiting] if len(batch))
        self._plan()

    def unproposed(self, term: int, publishes: list[tuple[Stream, Batch]]) -> list[tuple[Stream, Batch]]:
        """Those that the log hasn't had behind a term; none if that is too long ago."""
        if not self.lately.known:
            return []
        left = [(stream, batch.without(self.lately.of(stream.uid, term))) for stream, batch in publishes]
        return [(stream, batch) for stream, batch in left if len(batch)]

    def rows(self, change: Change) -> None:
        """Write rows by way of the log."""

        leadership = self._leadership

        def job(_work: Work) -> Callable[[Outcome], None] | None:
            rows = ops.OpRows()
            after = change(rows)
            if leadership != self._leadership or not self._replica.leading:
                if after is not None:
                    after(LeadershipLost(self._replica.name))
            elif rows.ops or after is not None:
                self._queue.append(_Light(rows.ops, after or (lambda _error: None)))
                self._plan()
            return None

        self._commits.at_rest(job)

    def save(self, saved: Saved) -> None:
        """Propose a state soon."""
        if not self._replica.leading:
            return
        self._saves[saved] = None
        if self._save_timer is None:
            self._save_timer = self._clock.call_later(SAVE_PAUSE_NS, self._save_due)

    def settle(self, saved: Saved, done: Callable[[], None]) -> None:
        """Once an entry with the state is applied here, or can't be any more."""
        if saved in self._saves or self._under_way:
            self.save_now(done)
        else:
            done()

    def confirm(self, consumer: Consumer, outcome: AckOutcome) -> None:
        """Propose the consumer's state now."""
        self._saves[consumer] = None
        self._confirmations.append((consumer, outcome))
        self._plan()

    def delete(self, stream: Stream, sequence: int, done: Callable[[ApiError | None], None]) -> None:
        """Delete one message."""

        def finish(result: tuple[Any, ...], error: StoreError | None) -> None:
            done(NOT_AVAILABLE() if error is not None else result[0])

        self.alone(ops.numbered(ops.DELETE, stream.uid, sequence), finish)

    def purge(
        self, stream: Stream, pattern: str | None, below: int, keep: int, done: Callable[[int, Exception | None], None]
    ) -> None:
        """Remove messages."""

        def finish(result: tuple[Any, ...], error: StoreError | None) -> None:
            if error is not None:
                done(0, error)
            else:
                done(*result)

        self.alone(ops.purge(stream.uid, pattern, below, keep), finish)

    def expire(self, stream: Stream, done: Callable[[], None]) -> None:
        """Remove what is too old by the time of the entry."""
        if self._replica.leading:
            self._expiries[stream.uid] = done
            self._plan()
        else:
            self._clock.call_soon(done)

    def alone(self, op: Op, finish: Callable[[tuple[Any, ...], StoreError | None], None]) -> None:
        """Propose an operation that takes commits of its own."""
        if not self._replica.leading:
            self._clock.call_soon(lambda: finish((), LeadershipLost(self._replica.name)))
            return
        self._queue.append(_Alone(op, finish))
        self._plan()

    # the log

    def _plan(self) -> None:
        if not self._planned and self._replica.leading:
            self._planned = True
            self._clock.call_soon(self._propose_planned)

    def _propose_planned(self) -> None:
        self._planned = False
        self._propose_now()

    def _propose_now(self) -> None:
        """Propose, and send it before this server's disk has it."""
        self._replica.group.turn(self.propose)

    def save_now(self, done: Callable[[], None]) -> None:
        """Propose the states that wait for that; `done` once they are there, or can't be."""
        if self._save_timer is not None:
            self._save_timer.cancel()
            self._save_timer = None
        if not self._replica.leading or not (self._saves or self._under_way or self._queue):
            done()
            return
        self._queue.append(_Light([], lambda _error: done()))
        self.propose()

    def _save_due(self) -> None:
        self._save_timer = None
        self._plan()

    def propose(self) -> None:
        """Put what waits into the log, as far as it goes."""
        group = self._replica.group
        while self._waits and self._may_propose and self._replica.leading and group.accepts:
            pending = Pending(group.term)
            self._gathering = True
            try:
                before, behind = self._gather(pending)
            finally:
                self._gathering = False
            if not (before or behind or pending.publishes):
                # What wrote nothing waits for what was proposed before it.
                last = next(reversed(self._under_way.values()), None)
                if last is not None:
                    last.afters += pending.afters
                else:
                    for after in pending.afters:
                        after(None)
                continue
            self._time_ns = max(self._clock.now_ns(), self._time_ns, self._replica.time_ns)
            try:
                index = self._put(before, pending.publishes, behind)
            except (NotLeader, Overloaded):
                for stream, batch in pending.publishes:
                    self._commits.refusals.answer(stream, batch, NOT_AVAILABLE())
                self._replica.services.bus.flush_soon()
                self._fail(pending)
                return
            self._under_way[index] = pending
            self._freezing = pending.freezes

    @property
    def _may_propose(self) -> bool:
        """Whether another entry may be on its way."""
        return len(self._under_way) < UNDER_WAY_MAX and not self._freezing

    def _put(self, before: list[Op], publishes: list[tuple[Stream, Batch]], behind: list[Op]) -> int:
        """Propose an entry. Errors: NotLeader, Overloaded."""
        group, now_ns = self._replica.group, self._time_ns
        if len(publishes) == 1 and not (before or behind):
            ((stream, batch),) = publishes
            return group.propose_whole(ops.publish(PREFIX, now_ns, stream.uid, batch))
        published = [Op(ops.PUBLISH, stream.uid, batch.encode()) for stream, batch in publishes]
        return group.propose(*ops.pieces(now_ns, [*before, *published, *behind]))

    def _gather(self, pending: Pending) -> tuple[list[Op], list[Op]]:
        """The operations of one entry: those before its publishes, and those behind them."""
        if self._queue and isinstance(self._queue[0], _Alone):
            first = self._queue.popleft()
            assert isinstance(first, _Alone)
            if first.op.kind in ops.OF_MESSAGES and self._stands_still(first.op.uid):
                pending.afters.append(lambda _error: first.finish((), LeadershipLost(self._replica.name)))
                return [], []
            pending.finish = first.finish
            pending.freezes = first.op.kind == ops.FREEZE
            return [first.op], []
        # What goes by age takes turns with all else, as each of these takes commits of its own.
        others = self._sources or self._queue or self._saves or self._confirmations
        self._expired = bool(self._expiries) and not (self._expired and others)
        if self._expired:
            uid = next(iter(self._expiries))
            gone = self._expiries.pop(uid)
            pending.finish = lambda _result, _error: gone()
            return [Op(ops.EXPIRE, uid, b"")], []
        found: list[Op] = []
        size = 0
        while self._queue and size < ENTRY_BYTES_MAX:
            light = self._queue[0]
            if isinstance(light, _Alone):
                return found, []
            self._queue.popleft()
            if any(self._stands_still(op.uid) for op in light.ops):
                light.after(LeadershipLost(self._replica.name))
                continue
            found += light.ops
            size += sum(op.size for op in light.ops)
            pending.afters.append(light.after)
        self._publishes(pending, ENTRY_BYTES_MAX - size)
        if self._confirmations or (self._saves and (found or pending.publishes or self._save_timer is None)):
            return found, self._states(pending)
        return found, []

    def _publishes(self, pending: Pending, room: int) -> None:
        """Take what waits in the taps, one batch a stream."""
        taken: set[int] = set()
        held: list[Source] = []
        for _ in range(len(self._sources)):
            if room <= 0 or len(taken) >= limits.COMMIT_STREAMS_MAX:
                break
            for stream, batch in self._sources.popleft().take(room):
                if stream.frozen:
                    # What its tap has goes to its new place. This had been taken from there.
                    self._commits.refusals.answer(stream, batch, NOT_AVAILABLE())
                elif stream.uid in taken:
                    held.append(Held(stream, batch))
                elif (refusal := self._commits.refusals.why(stream, batch)) is not None:
                    self._commits.refusals.answer(stream, batch, refusal)
                else:
                    taken.add(stream.uid)
                    room -= batch.size()
                    pending.publishes.append((stream, batch))
                    self.lately.add(stream.uid, batch)
        if held:
            self._sources.extendleft(reversed(held))

    def _stands_still(self, uid: int) -> bool:
        """Whether nothing can be done to a stream or shelf, as it is about to move."""
        owner = self._replica.owners.get(uid)
        return owner is not None and owner.frozen

    def _states(self, pending: Pending) -> list[Op]:
        found = [
            ops.state(saved.stream.uid, saved.consumer_id, saved.state.encode())
            for saved in self._saves
            if not saved.closed and saved.consumer_id and not saved.stream.frozen
        ]
        self._saves.clear()
        pending.confirmations = [each for each in self._confirmations if not each[0].stream.frozen]
        self._confirmations = []
        return found

    # what becomes of entries

    def batches(self, index: int, term: int) -> dict[int, Batch]:
        """The publishes of an entry that is to be applied by uid, if they were proposed here: as the entry has them."""
        self.lately.reached(term)
        pending = self._under_way.get(index)
        if pending is None or pending.term != term:
            return {}
        return {stream.uid: batch for stream, batch in pending.publishes}

    def settled(self, index: int, term: int, result: tuple[Any, ...]) -> None:
        """The replica has applied an entry."""
        pending = self._under_way.pop(index, None)
        if pending is None:
            return
        self._settled_ns = self._clock.monotonic_ns()
        if pending.freezes:
            self._freezing = False
        if pending.term != term:
            self._fail(pending)
            return
        for after in pending.afters:
            after(None)
        if pending.finish is not None:
            pending.finish(result, None)
        for consumer, acks in pending.confirmations:
            acks.confirm(self._replica.services.bus.engine, consumer.stream.account)
        if pending.confirmations:
            self._replica.services.bus.flush_soon()

    def _fail(self, pending: Pending) -> None:
        error = LeadershipLost(self._replica.name)
        for after in pending.afters:
            after(error)
        if pending.finish is not None:
            pending.finish((), error)

    def abandon(self) -> list[tuple[Stream, Batch]]:
        """This server doesn't lead any more: what is under way may or may not be committed; what waits won't be proposed.
        Returns the publishes that are under way."""
        self._leadership += 1
        under_way, self._under_way, self._freezing = self._under_way, {}, False
        queue, self._queue = self._queue, deque()
        expiries, self._expiries = self._expiries, {}
        self._saves.clear()
        self._confirmations.clear()
        for pending in under_way.values():
            self._fail(pending)
        error = LeadershipLost(self._replica.name)
        for item in queue:
            if isinstance(item, _Light):
                item.after(error)
            else:
                item.finish((), error)
        for gone in expiries.values():
            gone()
        return [publish for pending in under_way.values() for publish in pending.publishes]

    def forget_sources(self) -> list[tuple[Stream, Batch]]:
        """Publishes that wait and that this server will not propose."""
        sources, self._sources = self._sources, deque()
        found: list[tuple[Stream, Batch]] = []
        for source in sources:
            taken = list(source.take(PASS_BYTES))
            found += taken
            while taken and not isinstance(source, Held):
                taken = list(source.take(PASS_BYTES))
                found += taken
        return found
