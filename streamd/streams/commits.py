"""Group commit: everything that must become durable, taken together, admitted, stored, and only then acked.

Place in the walk: taps fill while a commit is under way; when it is done the next one takes all that has arrived.
Guarantee:  an ack (of a publish, of an acked ack, of an API call) leaves after the commit that holds its effect. One commit
            is under way at a time; a machine is never ahead of the log by more than that commit and the work that is being
            filled meanwhile, and if the commit fails the machine is read back from the store. What a Raft group has
            committed is durable before it comes here: it is admitted to the open work at any time, shown at once, and stored
            by the way; if that fails, the group's entries are applied again. Whatever is raised while a work is filled makes
            that a commit that failed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from streamd import limits
from streamd.store import Outcome, Work
from streamd.streams.mishaps import Mishaps, forget
from streamd.streams.saves import Saves, last_states
from streamd.streams.sources import Admitted
from streamd.streams.taking import Taking

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from streamd._engine import AckOutcome, Admission, Batch, CorruptRecord
    from streamd.api.errors import ApiError
    from streamd.clock import Clock, Timer
    from streamd.core.bus import Bus
    from streamd.errors import StoreError
    from streamd.store import Writer
    from streamd.streams.consumer import Consumer
    from streamd.streams.reader import Saved
    from streamd.streams.refusals import Refusals
    from streamd.streams.sources import Source
    from streamd.streams.stream import Stream

#: Publishes that come sooner than this after a commit, or a group's entry, are one of many: they are collected for the next.
BACK_TO_BACK_NS: Final = 15_000
#: What a Raft group has committed goes with the next commit once it has waited so long,
RIPE_NS: Final = 2_000_000
#: and after so long without one by itself.
LINGER_NS: Final = 5_000_000
#: More than this takes a commit of its own at once: the next entry would wait for all of it.
OPEN_BYTES_MAX: Final = 256 << 10

#: Runs when no commit is under way; adds to the work and returns what to do with the outcome.
Job = Callable[[Work], Callable[[Outcome], None] | None]


class Commits:
    """The one queue towards the store."""

    def __init__(self, writer: Writer, bus: Bus, clock: Clock, log: logging.Logger, refusals: Refusals) -> None:
        self.refusals = refusals
        self._writer = writer
        self._bus = bus
        self._clock = clock
        self._log = log
        self._jobs: list[Job] = []
        self._saves = Saves(clock, self._kick)
        self._mishaps = Mishaps(log)
        self._taking = Taking(self, clock, self._mishaps)
        self._ready = self._taking.ready
        self._planned = False
        self._filling = False  # a work: what becomes ready meanwhile is for the next one
        self._in_flight = False
        self._ended_ns = 0
        self._touched: dict[Stream, None] = {}
        self._admitted: dict[Stream, list[Admitted]] = {}  # of the work that is being filled
        self._open: Work | None = None  # what replicas have admitted, to be submitted with a later commit
        self._opened_ns = 0
        self._after_open: list[Callable[[Outcome], None]] = []
        self._joining: list[Job] = []  # jobs that go with what is open
        self._hurrying: list[Callable[[], None]] = []  # called once another work is open
        self._linger_timer: Timer | None = None
        self.closed = False

    @property
    def in_flight(self) -> bool:
        """Whether a commit is under way."""
        return self._in_flight

    @property
    def clean(self) -> bool:
        """In a job: whether the work has changed no stream so far, so that what is in memory is what is stored."""
        return not (self._admitted or self._touched)

    # what others ask for

    def ready(self, source: Source) -> None:
        """Publishes wait, in a stream's tap for example."""
        self._ready.append(source)
        if self._planned or self._filling or self._in_flight or self.closed:
            return
        if self._clock.monotonic_ns() - self._ended_ns > BACK_TO_BACK_NS:
            # Nothing else is going on: the next iteration of the loop would only add its delay.
            self._run()
        else:
            self._kick()

    def filling(self, source: Source) -> None:
        """Much waits. While a commit is under way, number and encode it for the next, which has only to be handed over then."""
        if not self._in_flight or self._filling or self.closed:
            return
        if self._jobs or self._taking.holds:
            return  # they come first
        if self._open is not None and (self._open.full() or not self._admitted or self._mishaps):
            return  # what replicas have admitted goes with whatever comes first
        with contextlib.suppress(ValueError):
            self._ready.remove(source)
        self._filling = True
        try:
            self._taking.ahead(source, self._admitted)
        finally:
            self._filling = False

    def at_rest(self, job: Job) -> None:
        """Run a job when no commit is under way and nothing is admitted; what it adds is committed with the publishes that
        wait."""
        self._jobs.append(job)
        self._kick()

    def join(self, job: Job) -> None:
        """Run a job that depends on no stream with the next `settle` or commit."""
        self._joining.append(job)

    def settle(self) -> None:
        """Run now what joined, if no commit is under way."""
        if not self._joining or self._in_flight or self._filling or self.closed:
            return
        self._bus.flush()  # others work on what joined while this server stores it
        small = self._open is None or (self._open.bytes <= limits.JOURNAL_WORK_BYTES_MAX and not self._ripe(self._open))
        if small and not self._jobs and not self._mishaps:
            self._run_joining()
        else:
            self._run()

    def _ripe(self, work: Work) -> bool:
        """Whether what is open goes with what joined. Others wait for that, and it may go to the store's journal: so not what
        needs pages of LMDB, and the rest a few entries at once."""
        return self._clock.monotonic_ns() - self._opened_ns >= RIPE_NS and work.adds_only()

    def _run_joining(self) -> None:
        """A commit of what joined, ahead of what is open."""
        self._planned = False
        jobs, self._joining = self._joining, []
        work = Work()
        self._filling = True
        try:
            after = self._do(jobs, work)
        finally:
            self._filling = False

        def done(outcome: Outcome) -> None:
            self._in_flight = False
            if outcome.error is not None:
                self._failed(outcome, [], [], [])
            self._mishaps.tell(after, outcome)
            self._bus.flush()
            self._go_on()

        if (error := self._mishaps.error) is None:
            self._submit(work, done)
            return
        forget(work)
        self._mishaps.given_up()
        self._mishaps.tell(after, Outcome(work, error))
        self._go_on()

    # for replicas

    def open(self) -> Work:
        """The work that goes with the next commit."""
        if self._open is None:
            self._open = Work()
            self._opened_ns = self._clock.monotonic_ns()
        return self._open

    @property
    def crowded(self) -> bool:
        """Whether nothing should be added to what is open; see `hurry`."""
        if self._jobs or self._mishaps:
            return True  # they wait for a moment at which nothing is
        work = self.open()
        return work.bytes > OPEN_BYTES_MAX or work.full()

    def after_open(self, call: Callable[[Outcome], None]) -> None:
        """Hear what becomes of the open work."""
        self._after_open.append(call)

    def linger(self) -> None:
        """The open work has something that nobody waits for."""
        if self._linger_timer is None and not (self._in_flight or self._planned or self.closed):
            self._linger_timer = self._clock.call_later(LINGER_NS, self._linger_over)

    def _linger_over(self) -> None:
        self._linger_timer = None
        if self._open is not None:
            self._kick()

    def hurry(self, call: Callable[[], None]) -> None:
        """Submit the open work as soon as may be, and call once another one is open."""
        self._hurrying.append(call)
        self._kick()

    def at_once(self, work: Work) -> None:
        """Commit a work and wait for it, while the server starts. Errors: StoreError."""
        outcomes: list[Outcome] = []
        self._writer.submit(work, outcomes.append)
        self._writer.settle()
        if (error := outcomes[0].error) is not None:
            raise error

    def touch(self, stream: Stream) -> None:
        """A job has changed the machine of a stream: the work that is being filled takes its delta."""
        self._touched[stream] = None

    def spoil(self, error: Exception, stream: Stream | None = None) -> None:
        """Putting something into the open work raised this, the part of a stream if that is known: nothing of that work is
        committed. Who filled it hears of it once machines are back where the store is."""
        self._mishaps.note(error, stream)
        if stream is not None:
            self.touch(stream)
        self._kick()

    def unreadable(self, stream: Stream, error: CorruptRecord) -> None:
        """A batch depends on something stored that can't be read: nothing of the stream is served any more."""
        if stream in self._touched:
            self.spoil(error, stream)  # or the totals of what was admitted before would count this batch
        else:
            stream.damaged(error)

    def admit(self, work: Work, stream: Stream, batch: Batch, now_ns: int, *, promised: bool = False) -> Admission:
        """Number a batch, and put it into the work that is being filled. `promised`: who calls acks it, at once, and admits it
        again if the commit fails. Errors: CorruptRecord."""
        stream.resolve(stream.state.unresolved(batch))
        admission = stream.state.admit(batch, now_ns)
        stream.retention.store(work, admission, now_ns, shown=promised)
        self.touch(stream)
        admitted = Admitted(stream, admission, stream.state.first_seq)
        if promised:
            # Readers see it already, so what is admitted behind it in the same work can remove it.
            admitted.show()
        else:
            self._admitted.setdefault(stream, []).append(admitted)
        return admission

    def save(self, consumer: Saved) -> None:
        """Store a consumer's state soon."""
        self._saves.add(consumer)
        if not self._planned and not self._in_flight:
            self._saves.plan()

    def confirm(self, consumer: Consumer, outcome: AckOutcome) -> None:
        """Answer acks that ask for it once the consumer's state is durable."""
        if not consumer.consumer_id:
            outcome.confirm(self._bus.engine, consumer.stream.account)
            self._bus.flush_soon()
            return
        self._saves.confirm(consumer, outcome)
        self._kick()

    def close(self, streams: Iterable[Stream]) -> None:
        """The server stops: commit what waits, every consumer's state, and a checkpoint of every index."""
        self._writer.settle()
        while self._open is not None or self._jobs or self._joining or self._ready:
            self._run()
            self._writer.settle()
        self.closed = True
        work = last_states(streams)
        if work.logs:
            self._writer.submit(work, lambda outcome: self._log.error("%s", outcome.error) if outcome.error else None)

    # the cycle

    def _kick(self) -> None:
        if not self._planned and not self._in_flight and not self.closed:
            self._planned = True
            self._clock.call_soon(self._planned_run)

    def _planned_run(self) -> None:
        if self._planned:
            self._run()

    def _run(self) -> None:
        self._planned = False
        if self._in_flight or self._filling or self.closed:
            return
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        if self._mishaps:
            self._give_up()
            return
        # Jobs rely on the machines being where the log is; those that join don't.
        jobs, self._joining = self._joining, []
        if self._open is None:
            jobs += self._jobs
            self._jobs = []
        work = self.open()
        self._filling = True
        try:
            self._after_open[:0] = self._do(jobs, work)
            self._taking.all(work, self._admitted)
            if not self._mishaps:
                touched = self._close_parts(work)
                consumers, confirmations = self._saves.put(work, rows_wait=bool(self._jobs))
        except Exception as error:
            self.spoil(error)
        finally:
            self._filling = False
        if self._mishaps:
            self._give_up()
            return
        admitted, self._admitted = [each for many in self._admitted.values() for each in many], {}
        self._touched.clear()
        self._open = None
        after, self._after_open = self._after_open, []

        acked = False

        def ack_at_once() -> None:
            nonlocal acked
            if not (self._ready or self._admitted):
                acked = True
                self._ended_ns = self._clock.monotonic_ns()
                admitted[0].admission.ack(self._bus.engine)
                self._bus.flush()

        if len(admitted) == 1 and not admitted[0].stream.followed:
            # Somebody may be waiting for nothing else: the rest is done while the ack is on its way.
            work.durable = ack_at_once

        def done(outcome: Outcome) -> None:
            self._in_flight = False
            if outcome.error is not None:
                self._failed(outcome, admitted, touched, consumers)
            else:
                self._mishaps.went_well(touched)
                waits = self._admitted or (self._ready and self._open is None)
                if waits and not self._jobs and not self.closed and not self._mishaps:
                    # The disk works on what has come meanwhile while this commit's acks go out.
                    self._run()
                for each in admitted if not acked else ():
                    each.admission.ack(self._bus.engine)
                for each in admitted:
                    each.show()
                for consumer, acks in confirmations:
                    acks.confirm(self._bus.engine, consumer.stream.account)
            self._mishaps.tell(after, outcome)
            self._bus.flush()
            if not acked:
                self._ended_ns = self._clock.monotonic_ns()
            self._go_on()

        self._submit(work, done)
        self._hurried()

    def _do(self, jobs: list[Job], work: Work) -> list[Callable[[Outcome], None]]:
        """Run jobs. Returns what follows from them; behind one that raises, the others wait for the next work."""
        after, left = self._mishaps.run(jobs, work, self.spoil)
        self._jobs[:0] = left
        return after

    def _give_up(self) -> None:
        """The open work can't be committed."""
        self._abandon()
        self._bus.flush()
        self._go_on()
        self._hurried()

    def _hurried(self) -> None:
        hurrying, self._hurrying = self._hurrying, []
        for call in hurrying:
            call()

    def _submit(self, work: Work, done: Callable[[Outcome], None]) -> None:
        if not work.logs:
            done(Outcome(work))
            return
        self._in_flight = True
        if self._writer.blocks(work):
            self._bus.flush()
        self._writer.submit(work, done)

    def _go_on(self) -> None:
        """A commit ended: plan the next one."""
        waits = self._ready or self._admitted or self._jobs or self._joining or self._hurrying or self._saves.awaited
        if waits or self._mishaps:
            self._kick()
        elif self._open is not None:
            if self._clock.monotonic_ns() - self._opened_ns < LINGER_NS:
                self.linger()
            else:
                self._kick()  # others' entries were under way whenever its time came
        elif self._saves:
            self._saves.plan()

    def _close_parts(self, work: Work) -> list[Stream]:
        """Every machine that changed adds its delta, and its checkpoint when one is due. Returns their streams."""
        touched = [stream for stream in self._touched if stream.stream_id and not stream.closed]
        for stream in touched:
            part = stream.part(work)
            part.delta(*stream.state.delta())
            if stream.checkpoint_due(sum(map(len, part.appends)) + len(part.deletes)):
                part.checkpoint = stream.state.checkpoint()
        return touched

    def _failed(
        self, outcome: Outcome, admitted: list[Admitted], touched: list[Stream], consumers: list[Saved]
    ) -> None:
        """Nothing of the work was applied: refuse what waited for it, and put the machines back to what is stored."""
        error = outcome.error
        assert error is not None
        answer = self.refusals.failed(error)
        for each in admitted:
            each.refuse(self._bus.engine, answer)
        if self._open is not None:
            # What was admitted behind that counts on it.
            self._abandon(error, answer, touched)
        else:
            for stream in touched:
                stream.put_back()
        for consumer in consumers:
            self._saves.add(consumer)

    def _abandon(
        self, error: StoreError | None = None, answer: ApiError | None = None, behind: Sequence[Stream] = ()
    ) -> None:
        """Nothing of the open work is committed, for the sake of a commit that failed with changes of the streams that it came
        `behind`, or as filling it did."""
        error = error or self._mishaps.error
        assert error is not None
        work, self._open = self.open(), None
        admitted, self._admitted = [each for many in self._admitted.values() for each in many], {}
        touched, self._touched = [*behind, *(each for each in self._touched if each not in behind)], {}
        answer = answer or self.refusals.given_up(error)
        for each in admitted:
            each.refuse(self._bus.engine, answer)
        forget(work)
        for stream in touched:
            if not stream.closed:
                stream.put_back()
        self._mishaps.given_up()
        calls, self._after_open = self._after_open, []
        self._mishaps.tell(calls, Outcome(work, error))
