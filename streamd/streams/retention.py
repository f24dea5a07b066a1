"""What leaves a stream: by its limits, by age, by deletes and purges.

Guarantee:  the machine and the log lose the same messages in the same commit; consumers hear of it once that is durable.
Source:     nats-server 2.15.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd._engine import CorruptRecord, record_key, select
from streamd.api.errors import MESSAGE_DELETE, MESSAGE_NOT_FOUND, SEQUENCE_NOT_FOUND, ApiError
from streamd.store import sequence_of
from streamd.streams.mishaps import answered
from streamd.streams.records import SCAN_BYTES, SCAN_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    Arguments = ParamSpec("Arguments")

    from streamd._engine import Admission, Records
    from streamd.clock import Timer
    from streamd.errors import StoreError
    from streamd.store import Outcome, Work
    from streamd.streams.commits import Job
    from streamd.streams.stream import Stream

#: Removing more than this in one commit would hold up everybody else's.
REMOVE_RECORDS_MAX: Final = 20_000
EXPIRY_PAUSE_NS: Final = 10_000_000


class Retention:
    """The removals of one stream."""

    __slots__ = ("_stream", "_timer", "under_way")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._timer: Timer | None = None
        self.under_way = 0  # purges, expiries and new limits, each of perhaps many commits

    # publishes

    def store(self, work: Work, admission: Admission, now_ns: int, *, shown: bool = False) -> None:
        """Put an admission into the work, with what it pushes out of the stream; `shown`: readers see it before it is
        stored."""
        stream = self._stream
        records = admission.records
        if admission.over:
            self._trim(now_ns, records, 0)
            records.discard_range(0, stream.state.first_seq)
        stream.log.append(work, records, shown=shown)
        if admission.deletes:
            stream.log.delete(work, admission.deletes)
        if admission.ids:
            # Their own time: that of the admission may be behind it, and they would be dropped while they count.
            stream.remember_ids(work, admission.ids, stream.state.last_ts_ns)
        if admission.over or admission.rolled_up:
            stream.log.keep_from(work, stream.state.first_seq)
        for subject, below in admission.purges:
            if subject:
                stream.changes.purge(stream, subject, below, 0, lambda _removed, _error: None)

    def after(self, admission: Admission, first_seq: int) -> None:
        """The admission is durable, and the stream began at `first_seq` with it."""
        stream = self._stream
        if admission.deletes:
            stream.deleted([int.from_bytes(key, "big") for key in admission.deletes])
        if admission.over or admission.rolled_up:
            stream.trimmed(first_seq)
        self.arm()

    def _trim(self, now_ns: int, fresh: Records | None, below: int) -> int:
        """Let the machine drop what exceeds its limits, but no more than REMOVE_RECORDS_MAX: on all replicas the same, whatever
        they have stored of what came before. Returns how many. Errors: CorruptRecord."""
        stream, state = self._stream, self._stream.state
        total = 0
        while state.messages and total < REMOVE_RECORDS_MAX:
            excess = state.messages - stream.max_msgs if stream.max_msgs > 0 else 0
            limit = min(excess, SCAN_RECORDS) if excess > 0 else 256
            limit = min(limit, REMOVE_RECORDS_MAX - total)
            values = stream.log.read(state.first_seq, limit, SCAN_BYTES)
            if not values and fresh is not None:
                values = fresh.read(state.first_seq, limit)
            if not values:
                break
            before = state.messages
            _gone, left_ts_ns = state.trim(values, now_ns, below_seq=below)
            # Dead ones among them don't count: which are still there depends on what this server has stored already.
            total += before - state.messages
            if left_ts_ns or state.messages == before:
                break
        return total

    # age

    def arm(self) -> None:
        """Plan the expiry of the oldest message."""
        stream = self._stream
        max_age_ns = stream.max_age_ns
        if (
            not (max_age_ns and stream.leads)
            or stream.closed
            or stream.offline
            or self._timer is not None
            or not stream.state.messages
        ):
            return
        due_ns = stream.first_timestamp_ns() + max_age_ns - stream.services.clock.now_ns()
        self._timer = stream.services.clock.call_later(max(due_ns, EXPIRY_PAUSE_NS), self._expiry_due)

    def _expiry_due(self) -> None:
        self._timer = None
        if not self._stream.closed:
            self._stream.changes.expire(self._stream, self.arm)

    def close(self) -> None:
        """No more expiry."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # jobs

    def begun(self, done: Callable[Arguments, None]) -> Callable[Arguments, None]:
        """Something of perhaps many commits begins, which ends with `done`."""
        self.under_way += 1
        ended = False

        def end(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
            nonlocal ended
            self.under_way -= not ended
            ended = True
            done(*args, **kwargs)

        return end

    def trim_job(self, below: int, done: Callable[[int, Exception | None], None], *, now_ns: int = 0) -> Job:
        """A job that applies the limits, as of a time (0: that of its commit), and removes all below a sequence; goes on in
        further commits until it is done."""
        stream, done = self._stream, self.begun(done)

        def job(work: Work, before: int) -> Callable[[Outcome], None] | None:
            if stream.closed:
                done(before, None)
                return None
            try:
                removed = self._trim(now_ns or stream.services.clock.now_ns(), None, below)
            except CorruptRecord as error:
                stream.services.commits.unreadable(stream, error)
                done(before, error)
                return None
            if not removed:
                done(before, None)
                return None
            first_seq = stream.state.first_seq
            stream.log.keep_from(work, first_seq)
            stream.services.commits.touch(stream)

            def after(outcome: Outcome) -> None:
                if outcome.error is not None:
                    stream.put_back()
                    done(before, outcome.error)
                    return
                stream.trimmed(first_seq)
                if removed >= REMOVE_RECORDS_MAX:
                    stream.services.commits.at_rest(behind(before + removed))
                else:
                    done(before + removed, None)

            return after

        def behind(before: int) -> Job:
            return answered(stream, lambda work: job(work, before), lambda outcome: done(before, outcome.error))

        return behind(0)

    def forget_ids_job(self, now_ns: int, done: Callable[[StoreError | None], None]) -> Job:
        """A job that drops the message ids that are out of the window by a time, before there is another window: who reads them
        from the store later would take them in again."""
        stream = self._stream

        def job(work: Work) -> Callable[[Outcome], None] | None:
            if stream.closed:
                done(None)
                return None
            stream.state.expire_ids(now_ns)
            stream.forget_ids(work)
            if ids := stream.state.ids():
                stream.remember_ids(work, ids, stream.state.last_ts_ns)

            def after(outcome: Outcome) -> None:
                if outcome.error is not None:
                    stream.put_back()
                done(outcome.error)

            return after

        return answered(stream, job, lambda outcome: done(outcome.error))

    def delete_job(self, sequence: int, done: Callable[[Exception | None], None]) -> Job:
        """A job that deletes one message; `done` with an ApiError if it isn't there, a StoreError if it couldn't be stored."""
        stream = self._stream

        def job(work: Work) -> Callable[[Outcome], None] | None:
            try:
                value = self._deletable(sequence)
            except ApiError as error:
                done(error)
                return None
            except CorruptRecord as error:
                stream.damaged(error)
                done(ApiError(500, 10118, stream.offline or str(error)))
                return None

            return self._remove(work, [value], lambda: done(None), done)

        return answered(stream, job, lambda outcome: done(outcome.error))

    def _deletable(self, sequence: int) -> bytes:
        """The record of a message that is there. Errors: ApiError, CorruptRecord."""
        stream = self._stream
        if stream.closed:
            raise MESSAGE_NOT_FOUND()
        if not sequence:
            raise MESSAGE_DELETE(err="no message found")
        if sequence > stream.state.last_seq and not stream.in_memory:
            raise MESSAGE_DELETE(err="stream store EOF")
        if sequence < stream.state.first_seq and not stream.in_memory:
            raise MESSAGE_DELETE(err="no message found")
        value = stream.get(sequence)
        if value is None:
            raise SEQUENCE_NOT_FOUND(seq=sequence)
        return value

    def excess_job(self, done: Callable[[Exception | None], None]) -> Job:
        """A job that applies a lowered limit per subject; goes on in further commits until it is done."""
        stream, done = self._stream, self.begun(done)

        def job(work: Work) -> Callable[[Outcome], None] | None:
            sequences = [] if stream.closed else stream.state.excess(REMOVE_RECORDS_MAX)
            if not sequences:
                done(None)
                return None
            try:
                values = [value for value in stream.get_many(sequences) if value is not None]
            except CorruptRecord as error:
                stream.damaged(error)
                done(error)
                return None
            return self._remove(work, values, lambda: stream.services.commits.at_rest(guarded), done)

        guarded = answered(stream, job, lambda outcome: done(outcome.error))
        return guarded

    def _remove(
        self, work: Work, values: list[bytes], more: Callable[[], None], failed: Callable[[Exception | None], None]
    ) -> Callable[[Outcome], None]:
        """Take records out of the machine and the log; `more` once that is durable."""
        stream = self._stream
        sequences = [sequence_of(value) for value in values]
        stream.state.remove(values)
        stream.log.delete(work, [record_key(sequence) for sequence in sequences])
        stream.services.commits.touch(stream)

        def after(outcome: Outcome) -> None:
            if outcome.error is not None:
                stream.put_back()
                failed(outcome.error)
                return
            stream.deleted(sequences)
            more()

        return after

    def purge_job(
        self, pattern: str | None, below: int, done: Callable[[int, Exception | None], None], *, keep: int = 0
    ) -> Job:
        """A job that removes what matches (None: everything) below a sequence (0: no bound) but the last `keep`."""
        stream, done = self._stream, self.begun(done)

        def job(work: Work, before: int, from_seq: int) -> Callable[[Outcome], None] | None:
            state = stream.state
            if stream.closed:
                done(before, None)
                return None
            if pattern is None and not keep and (not below or below > state.last_seq):
                return self._purge_all(work, max(below, state.last_seq + 1), done)
            try:
                values, next_seq = self._select(pattern, max(from_seq, state.first_seq), below, keep)
            except CorruptRecord as error:
                stream.damaged(error)
                done(before, error)
                return None
            if not values:
                done(before, None)
                return None
            removed = before + len(values)

            def more() -> None:
                if next_seq:
                    stream.services.commits.at_rest(behind(removed, next_seq))
                else:
                    done(removed, None)

            return self._remove(work, values, more, lambda error: done(before, error))

        def behind(before: int, from_seq: int) -> Job:
            return answered(
                stream, lambda work: job(work, before, from_seq), lambda outcome: done(before, outcome.error)
            )

        return behind(0, 0)

    def _purge_all(
        self, work: Work, next_seq: int, done: Callable[[int, Exception | None], None]
    ) -> Callable[[Outcome], None]:
        stream = self._stream
        removed = stream.state.messages
        stream.state.reset(next_seq)
        stream.log.keep_from(work, next_seq)
        stream.services.commits.touch(stream)

        def after(outcome: Outcome) -> None:
            if outcome.error is not None:
                stream.put_back()
                done(0, outcome.error)
                return
            stream.committed_seq = max(stream.committed_seq, next_seq - 1)
            stream.trimmed(next_seq)
            done(removed, None)

        return after

    def _select(self, pattern: str | None, from_seq: int, below: int, keep: int) -> tuple[list[bytes], int]:
        """Up to REMOVE_RECORDS_MAX records to remove, and where to go on (0: nowhere)."""
        stream, state = self._stream, self._stream.state
        filters = [pattern] if pattern else []
        low, high, count = state.bounds(filters) if filters else (state.first_seq, state.last_seq, state.messages)
        left = count - keep if keep else count
        top = min(high, below - 1 if below else high)
        found: list[bytes] = []
        sequence = max(from_seq, low)
        while sequence <= top and left > len(found):
            values, covered = stream.read(sequence, SCAN_RECORDS, SCAN_BYTES)
            matching = set(select(values, filters)) if filters else None
            for value in values:
                number = sequence_of(value)
                if number > top or left <= len(found):
                    return found, 0
                if matching is None or number in matching:
                    found.append(value)
            sequence = covered + 1
            if len(found) >= REMOVE_RECORDS_MAX:
                return found, sequence
        return found, 0
