"""One consumer: when it may deliver, what it delivers, and what follows from acks.

The machine (what is pending, what comes again, who waits) is native: `ConsumerState`. This file decides when to call it.
Guarantee:  a confirmation of an ack leaves only once the ack is durable; what a client has been shown is in the log.
Source:     nats-server 2.15.2.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import Batch, ConsumerState, CorruptRecord, subject_subset
from streamd.streams.counting import PendingCount
from streamd.streams.made import Made
from streamd.streams.pulls import PullRequests
from streamd.streams.records import timestamp_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd._engine import AckOutcome, Admission, Delivery
    from streamd.api.consumer import ConsumerConfig
    from streamd.clock import Timer
    from streamd.core.bus import Binding, Watch
    from streamd.streams.stream import Stream

#: One turn of the pump reads and sends at most this much, then the loop serves others.
PUMP_RECORDS_MAX: Final = 2048
PUMP_BYTES_MAX: Final = 512 * 1024
#: A saved state lags behind deliveries by at most this, if nobody waits for a confirmation.
SAVE_DELAY_NS: Final = 5_000_000
SECOND_NS: Final = 1_000_000_000

#: Why a delivery ended (`Delivery.blocked`).
USED_UP, NO_REQUEST, ACK_PENDING, CONGESTED, NO_INTEREST, WINDOW, TOO_YOUNG = range(7)


class Consumer:
    """A view of a stream that moves on as its messages are delivered and acked."""

    def __init__(
        self, stream: Stream, config: ConsumerConfig, state: ConsumerState, consumer_id: int, created_ns: int
    ) -> None:
        self.stream = stream
        self.config = config
        self.state = state
        self.consumer_id = consumer_id  # the store's number; 0: kept in memory only
        self.created_ns = created_ns
        self.name = config.name
        self.pull = not config.deliver_subject
        self.filters = filters_of(config)
        self.closed = False
        self.bindings: list[Binding] = []
        self.watch: Watch | None = None
        self._clock = stream.services.clock
        self._bus = stream.services.bus
        self._engine = stream.services.bus.engine
        self._pump_planned = False
        self._congested = False
        self._expiry: Timer | None = None
        self._expiry_at_ns = 0
        self._heartbeat: Timer | None = None
        self._inactivity: Timer | None = None
        self._replay: Timer | None = None
        self._last_sent_ns = self._clock.now_ns()
        self._last_active_ns = self._last_sent_ns
        self._replay_offset_ns: int | None = None
        #: last_per_subject: the sequences that go first, and where ordinary delivery begins behind them.
        self._lasts: deque[int] = deque()
        self.lasts_until = 0
        self.pending = PendingCount(self)
        self.made = Made()
        self.requests = PullRequests(self)
        self._running = False
        if not self.pull:
            self._watch_interest()

    # life

    def start(self) -> None:
        """Listen for acks, requests and interest, and deliver what there is."""
        self._running = True
        stream, name = self.stream.name, self.name
        if self.config.ack_policy != "none":
            subjects = [f"$JS.ACK.{stream}.{name}.>", f"$JS.ACK.*.*.{stream}.{name}.>"]
            self.bindings.append(self._bus.bind(subjects, self._on_acks))
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        if self.pull:
            self.bindings.append(self._bus.bind([subject], self.requests.receive))
        else:
            self.bindings.append(self._bus.bind([subject], self.requests.refuse_push))
            if self.config.flow_control:
                self.bindings.append(self._bus.bind([f"$JS.FC.{stream}.{name}.>"], self._on_flow))
        if self.config.idle_heartbeat and not self.pull:
            self._heartbeat = self._clock.call_later(self.config.idle_heartbeat, self._heartbeat_due)
        self._arm_expiry()
        self._arm_inactivity()
        self.wake()

    def close(self, status: str) -> None:
        """Stop: no more deliveries, waiting requests end with a status line."""
        if self.closed:
            return
        self.closed = True
        if self.pull:
            self.state.requests_end(self._engine, self.stream.account, status)
        for binding in self.bindings:
            binding.close()
        if self.watch is not None:
            self.watch.close()
        for timer in (self._expiry, self._heartbeat, self._inactivity, self._replay):
            if timer is not None:
                timer.cancel()
        self.requests.close()
        self._bus.flush_soon()

    def reconfigure(self, config: ConsumerConfig) -> None:
        """Take on an updated configuration."""
        moved = config.deliver_subject != self.config.deliver_subject
        self.config = config
        self.filters = filters_of(config)
        self.state.configure(**state_options(config))
        self.pending.begin(anew=True)
        if moved and not self.pull:
            if self.watch is not None:
                self.watch.close()
            self._watch_interest()
        self._arm_inactivity()
        self.wake()

    def _watch_interest(self) -> None:
        queue = self.config.deliver_group or None
        self.watch = self._bus.watch(self.config.deliver_subject, self._on_interest, queue=queue)

    @property
    def push_bound(self) -> bool:
        """Whether a client listens on the deliver subject."""
        return self.watch is not None and self.watch.interested

    # delivering

    def appended(self, admission: Admission) -> None:
        """The stream has grown by what was admitted."""
        if admission.first_seq and self.state.next_seq > admission.first_seq:
            self.pending.begin()  # it begins beyond the end that the stream had
        elif admission.last_seq > self.pending.upto:
            matching = admission.records.matching(self.filters)
            if not matching:
                return
            self.state.num_pending += matching
        self.wake()

    def wake(self) -> None:
        """Deliver as soon as the loop comes round."""
        if not self._pump_planned and not self.closed and not self._congested:
            self._pump_planned = True
            self._clock.call_soon(self._pump)

    def _may_deliver(self) -> bool:
        return self._running and (self.state.num_waiting > 0 if self.pull else self.push_bound)

    def _pump(self) -> None:
        """One bounded piece of delivering; plans the next one if there is more to do."""
        self._pump_planned = False
        if self.closed or self.stream.offline or not self._may_deliver():
            return
        try:
            more = self._redeliver() and self._deliver_new()
        except CorruptRecord as error:
            self.stream.damaged(error)
            return
        self._bus.flush_soon()
        if more:
            self.wake()

    def _redeliver(self) -> bool:
        """Send what is due again. Returns whether new messages may follow."""
        sequences = self.state.due(self._clock.now_ns(), PUMP_RECORDS_MAX)
        if not sequences:
            return True
        values = self.stream.get_many(sequences)
        gone = [seq for seq, value in zip(sequences, values, strict=True) if value is None]
        if gone:
            self.forget(gone)
        delivery = self._send([value for value in values if value is not None], redelivery=True)
        if delivery.blocked == USED_UP:
            self.wake()
        return False

    def _deliver_new(self) -> bool:
        """Send new messages. Returns whether there may be more to send at once."""
        state, stream = self.state, self.stream
        if state.blocked():
            return False
        if self._lasts:
            return self._deliver_lasts()
        if state.next_seq <= self.lasts_until:
            state.next_seq = self.lasts_until + 1
        if self.filters and state.next_seq <= stream.committed_seq:
            low, high, _count = stream.state.bounds(self.filters)
            if low > state.next_seq:
                state.next_seq = low
            if high < state.next_seq:
                state.next_seq = stream.committed_seq + 1
        if state.next_seq > stream.committed_seq:
            if self.pull:
                state.requests_drained(self._engine, stream.account)
                self.requests.arm()
            return False
        limit = PUMP_RECORDS_MAX
        if not self.filters:
            limit = max(1, min(limit, state.demand)) if self.pull else limit
        values, covered = stream.read(state.next_seq, limit, PUMP_BYTES_MAX)
        if not values:
            state.next_seq = covered + 1
            return True
        delivery = self._send(values, redelivery=False)
        if delivery.consumed == len(values):
            state.next_seq = covered + 1
        return delivery.blocked in (USED_UP, NO_REQUEST) and self._may_deliver()

    def _deliver_lasts(self) -> bool:
        """Send last messages of subjects, which are far apart."""
        lasts = self._lasts
        sequences = list(islice(lasts, PUMP_RECORDS_MAX))
        found = [value for value in self.stream.get_many(sequences) if value is not None]
        delivery = self._send(found, redelivery=False) if found else None
        upto = sequences[-1]
        if delivery is not None and delivery.consumed < len(found):
            upto = delivery.last_seq
        while lasts and lasts[0] <= upto:
            lasts.popleft()
        return (delivery is None or delivery.blocked in (USED_UP, NO_REQUEST)) and self._may_deliver()

    def _send(self, values: Sequence[bytes], *, redelivery: bool) -> Delivery:
        now_ns = self._clock.now_ns()
        upto_ts_ns = 0 if redelivery or self.config.replay_policy != "original" else self._replay_limit(values, now_ns)
        delivery = self.state.deliver(
            self._engine,
            self.stream.account,
            values,
            now_ns,
            deliver_subject=self.config.deliver_subject or "",
            deliver_group=self.config.deliver_group or "",
            bytes_max=PUMP_BYTES_MAX,
            upto_ts_ns=upto_ts_ns,
            redelivery=redelivery,
        )
        if delivery.delivered:
            self._last_sent_ns = self._last_active_ns = now_ns
            self.changed()
            self._arm_expiry()
        if delivery.blocked == CONGESTED:
            self._congested = True
            self._bus.when_drained(delivery.conn, self._drained)
        return delivery

    def _drained(self) -> None:
        self._congested = False
        self.wake()

    def _replay_limit(self, values: Sequence[bytes], now_ns: int) -> int:
        """Replay original: the timestamp up to which messages may go now; plans the pump for the next one."""
        first_ns = timestamp_of(values[0])
        if self._replay_offset_ns is None:
            self._replay_offset_ns = now_ns - first_ns
        limit_ns = now_ns - self._replay_offset_ns
        if self._replay is not None:
            self._replay.cancel()
        for value in values:
            timestamp_ns = timestamp_of(value)
            if timestamp_ns > limit_ns:
                self._replay = self._clock.call_later(timestamp_ns - limit_ns, self.wake)
                break
        return max(limit_ns, 1)

    # acks

    def _on_acks(self, batch: Batch) -> None:
        now_ns = self._clock.now_ns()
        outcome = self.state.ack(batch, now_ns)
        self._last_active_ns = now_ns
        if outcome.changed:
            self.changed()
        if outcome.confirmations():
            self.stream.changes.confirm(self, outcome)
        self._report(outcome)
        for reply, body in outcome.nexts:
            self.requests.accept(reply, body)
        if outcome.naks:
            self._arm_expiry()
        if outcome.settled or outcome.redeliver or outcome.nexts:
            self.wake()

    def _report(self, outcome: AckOutcome) -> None:
        advisories = self.stream.services.advisories
        for consumer_seq, stream_seq, deliveries in outcome.naks:
            advisories.nak(self.stream.name, self.name, consumer_seq, stream_seq, deliveries)
        for consumer_seq, stream_seq, deliveries, reason in outcome.terms:
            advisories.terminated(self.stream.name, self.name, consumer_seq, stream_seq, deliveries, reason)
        for consumer_seq, stream_seq, deliveries, delivered_ns in outcome.acked:
            ack_time_ns = self._clock.now_ns() - delivered_ns
            advisories.ack_metric(self.stream.name, self.name, consumer_seq, stream_seq, ack_time_ns, deliveries)

    def forget(self, sequences: Sequence[int]) -> None:
        """Messages were deleted from the stream: nobody needs to ack them any more."""
        if self._lasts:
            gone = set(sequences)
            self._lasts = deque(sequence for sequence in self._lasts if sequence not in gone)
        self._settled_by_deletion(self.state.forget(sequences))

    def forget_below(self, sequence: int) -> None:
        """The same for all messages below a sequence."""
        while self._lasts and self._lasts[0] < sequence:
            self._lasts.popleft()
        self._settled_by_deletion(self.state.forget_below(sequence))

    def purged(self, pattern: str | None) -> None:
        """A purge of a subject or pattern (None: of all) is through: what it took from here counts as delivered."""
        stream = self.stream
        first = stream.state.first_seq
        if pattern is not None:
            if not self.filters or not all(subject_subset(own, pattern) for own in self.filters):
                return
            first = stream.state.bounds([pattern])[0] or stream.committed_seq + 1
        self.state.purged(first)
        self.pending.begin(anew=True)
        self.changed()

    def _settled_by_deletion(self, settled: list[tuple[int, int, int]]) -> None:
        advisories = self.stream.services.advisories
        for consumer_seq, stream_seq, deliveries in settled:
            reason = "Unacknowledged message was deleted"
            advisories.terminated(self.stream.name, self.name, consumer_seq, stream_seq, deliveries, reason)
        if settled:
            self.changed()
            self.wake()

    def begin_with_lasts(self, until: int) -> None:
        """Deliver policy last_per_subject: up to `until` only the last message of each subject is delivered."""
        self.lasts_until = until
        lasts = self.stream.last_per_subject(self.filters)
        self._lasts = deque(seq for seq in lasts if self.state.next_seq <= seq <= until)

    def ordinary(self) -> tuple[int, int]:
        """How many messages go first, and where ordinary delivery begins."""
        return len(self._lasts), max(self.state.next_seq, self.lasts_until + 1)

    # timers

    def _arm_expiry(self) -> None:
        """Make sure that the next deadline of a pending message is looked at in time."""
        due_ns = self.state.deadline_ns
        if self.closed or not due_ns or (self._expiry is not None and self._expiry_at_ns <= due_ns):
            return
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry_at_ns = due_ns
        self._expiry = self._clock.call_later(due_ns - self._clock.now_ns(), self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if self.closed:
            return
        _due_ns, exhausted = self.state.expire(self._clock.now_ns())
        for stream_seq, deliveries in exhausted:
            self.stream.services.advisories.max_deliveries(self.stream.name, self.name, stream_seq, deliveries)
        if exhausted:
            self.changed()
        if self.state.num_queued or exhausted:
            self.wake()
        self._arm_expiry()

    def _heartbeat_due(self) -> None:
        interval_ns = self.config.idle_heartbeat or SECOND_NS
        now_ns = self._clock.now_ns()
        idle_ns = now_ns - self._last_sent_ns
        if idle_ns >= interval_ns:
            if self.push_bound:
                self.state.heartbeat(self._engine, self.config.deliver_subject or "", self.stream.account)
                self._bus.flush_soon()
            self._last_sent_ns = now_ns
            idle_ns = 0
        self._heartbeat = self._clock.call_later(interval_ns - idle_ns, self._heartbeat_due)

    def _on_interest(self, interested: bool) -> None:
        self._last_active_ns = self._clock.now_ns()
        if self.config.flow_control:
            self.state.flow_reset()
        if interested:
            self.wake()
        else:
            self._arm_inactivity()

    def _on_flow(self, batch: Batch) -> None:
        for index in range(len(batch)):
            if self.state.flow_answered(batch[index].subject):
                self.wake()

    def touched(self) -> None:
        """A client used the consumer."""
        self._last_active_ns = self._clock.now_ns()

    def _arm_inactivity(self) -> None:
        if self._inactivity is not None:
            self._inactivity.cancel()
            self._inactivity = None
        if self.config.inactive_threshold and not self.closed:
            self._inactivity = self._clock.call_later(self.config.inactive_threshold, self._inactive_due)

    def _inactive_due(self) -> None:
        threshold_ns = self.config.inactive_threshold or SECOND_NS
        in_use = self.push_bound or (self.pull and self.state.num_waiting > 0)
        idle_ns = 0 if in_use else self._clock.now_ns() - self._last_active_ns
        if idle_ns >= threshold_ns:
            self.stream.services.log.debug("consumer %s > %s was inactive, deleting it", self.stream.name, self.name)
            self.stream.delete_consumer(self)
            return
        self._inactivity = self._clock.call_later(threshold_ns - idle_ns, self._inactive_due)

    def changed(self) -> None:
        """Its state differs from what is stored."""
        if self.consumer_id:
            self.stream.changes.save(self)


def filters_of(config: ConsumerConfig) -> list[str]:
    """The subjects that it takes; none: all."""
    return list(config.filter_subjects or ([config.filter_subject] if config.filter_subject else []))


def state_options(config: ConsumerConfig) -> dict[str, Any]:
    """What the native machine needs to know of a configuration."""
    return {
        "ack_wait_ns": config.ack_wait or 30 * SECOND_NS,
        "backoff_ns": list(config.backoff or ()),
        "max_deliver": config.max_deliver or -1,
        "max_ack_pending": config.max_ack_pending or -1,
        "max_waiting": config.max_waiting or 512,
        "filters": filters_of(config),
        "headers_only": bool(config.headers_only),
        "sampling": bool(config.sample_freq),
    }
