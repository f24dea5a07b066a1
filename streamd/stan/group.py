"""One subscription or queue group: when it may send, what it sends, and what follows from acks.

The machine (what is pending with whom, what comes again) is native: `StanGroup`. This file decides when to call it. A plain
or durable subscription is a group with one member; a durable without one is offline.
Source:  nats-streaming-server 0.25.6.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from streamd._engine import CorruptRecord, StanGroup
from streamd.stan.names import inbox_usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd._engine import Admission, Batch, Delivery
    from streamd.clock import Timer
    from streamd.core.bus import Binding, Watch
    from streamd.stan.channels import Channel
    from streamd.streams.changes import Rows
    from streamd.streams.stream import Stream

#: One turn of the pump reads and sends at most this much, then the loop serves others.
PUMP_RECORDS_MAX: Final = 2048
PUMP_BYTES_MAX: Final = 512 * 1024
SECOND_NS: Final = 1_000_000_000
SERVICE: Final = "stan"
#: Where messages go whose subscriber named no inbox that can be: they wait for acks like others.
NOWHERE: Final = "_INBOX.nowhere"

#: Why a delivery ended (`Delivery.blocked`).
USED_UP, CONGESTED = 0, 3


@dataclass(slots=True)
class Sent:
    """What went out to all subscriptions since the start, redeliveries included. Units: bytes of protobuf."""

    messages: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Member:
    """A subscription of a client. Units: ack_wait in seconds, as on the wire."""

    number: int  # within the group, from 1
    client_id: str
    inbox: str
    ack_inbox: str
    max_in_flight: int
    ack_wait: int
    #: Where its acks come in, while it is listened to.
    acks: Binding | None = None
    #: Whether somebody listens at its inbox again, while nobody does.
    back: Watch | None = None

    def stored(self) -> dict[str, Any]:
        """What a restart needs of it."""
        return {name: getattr(self, name) for name in _STORED}


_STORED: Final = tuple(field.name for field in fields(Member) if field.name not in ("acks", "back"))


class Group:
    """Follows a channel's stream and sends its messages to the members."""

    __slots__ = (
        "_bus",
        "_clock",
        "_congested",
        "_next_number",
        "_pump_planned",
        "_sent",
        "_timer",
        "_timer_at_ns",
        "channel",
        "closed",
        "consumer_id",
        "durable",
        "identity",
        "last",
        "members",
        "queue",
        "state",
    )

    def __init__(
        self,
        channel: Channel,
        identity: int,
        *,
        durable: str,
        queue: str,
        state: StanGroup,
        consumer_id: int,
        sent: Sent,
    ) -> None:
        """`queue`: as monitoring shows it, `durable:group` for a durable queue; "" for none."""
        self.channel = channel
        self.identity = identity  # the subscription's id within the channel
        self.durable = durable
        self.queue = queue
        self.state = state
        self.consumer_id = consumer_id  # the store's number; 0: kept in memory only
        self.members: dict[int, Member] = {}
        self.last: Member | None = None  # who left last, for what is offline
        self.closed = False
        self._sent = sent
        self._next_number = 1
        services = channel.stream.services
        self._clock = services.clock
        self._bus = services.bus
        self._pump_planned = False
        self._congested = False
        self._timer: Timer | None = None
        self._timer_at_ns = 0

    @property
    def stream(self) -> Stream:
        """The channel's."""
        return self.channel.stream

    @property
    def last_sent(self) -> int:
        """The last sequence that was sent for the first time."""
        return self.state.next_seq - 1

    @property
    def kind(self) -> str:
        """What the log calls it."""
        return ("durable " if self.durable else "") + ("queue " if self.queue else "")

    # the stored form

    def definition(self) -> bytes:
        """All but position and pending messages."""
        return json.dumps(
            {
                "service": SERVICE,
                "id": self.identity,
                "durable": self.durable,
                "queue": self.queue,
                "next": self._next_number,
                "members": [member.stored() for member in self.members.values()],
                "last": None if self.last is None else self.last.stored(),
            }
        ).encode()

    @classmethod
    def restored(
        cls,
        channel: Channel,
        consumer_id: int,
        definition: dict[str, Any],
        state: bytes | None,
        sent: Sent,
        *,
        at_once: bool = False,
    ) -> Group:
        """From the store. `at_once`: what is pending is sent again at once. Errors: CorruptRecord."""
        machine = StanGroup(channel.name, queue=bool(definition["queue"]), patient=channel.clustered)
        group = cls(
            channel,
            definition["id"],
            durable=definition["durable"],
            queue=definition["queue"],
            state=machine,
            consumer_id=consumer_id,
            sent=sent,
        )
        group._next_number = definition["next"]
        group.members = {stored["number"]: Member(**stored) for stored in definition["members"]}
        group.last = None if definition["last"] is None else Member(**definition["last"])
        for member in group.members.values():
            group._join_machine(member, ack_wait=0 if at_once else member.ack_wait)
        if state is not None:
            machine.decode(state)
        for member in group.members.values() if at_once else ():
            group._join_machine(member, ack_wait=member.ack_wait)
        if channel.stream.offline is None:
            group._forget_gone()
        return group

    def _forget_gone(self) -> None:
        """What left the stream while nobody told this group needs no ack."""
        stream, state = self.stream, self.state
        state.forget_below(max(stream.state.first_seq, 1))
        pending = [entry[0] for entry in state.pending_list(state.num_pending)]
        state.forget([sequence for sequence in pending if not stream.state.live(sequence)])

    def store(self, rows: Rows) -> None:
        """Put definition and state into a change."""
        if self.consumer_id and not self.closed:
            rows.put(self.stream, self.consumer_id, self.definition(), self.state.encode())

    # members

    def admit(self, client_id: str, inbox: str, ack_inbox: str, max_in_flight: int, ack_wait: int) -> Member:
        """Write a member down; it gets messages once `join` is called."""
        member = Member(self._next_number, client_id, inbox, ack_inbox, max_in_flight, ack_wait)
        self._next_number += 1
        self.members[member.number] = member
        self.last = None
        return member

    def join(self, member: Member) -> None:
        """Listen for a member's acks, and let it have messages from the next loop iteration on."""
        self._listen(member)
        self._join_machine(member, ack_wait=member.ack_wait)
        self.wake()

    def start(self) -> None:
        """After a restart: go on with those that were members."""
        for member in self.members.values():
            self._listen(member)
        self._arm()
        self.wake()

    def _listen(self, member: Member) -> None:
        number = member.number
        member.acks = self._bus.bind([member.ack_inbox], lambda batch: self._on_acks(number, batch))

    def _unlisten(self, member: Member) -> None:
        if member.acks is not None:
            member.acks.close()
            member.acks = None
        self._stop_awaiting(member)

    def _stop_awaiting(self, member: Member) -> bool:
        """Wait no longer for somebody to listen. Returns whether that was waited for."""
        back, member.back = member.back, None
        if back is None:
            return False
        back.close()
        return True

    def _join_machine(self, member: Member, *, ack_wait: int) -> None:
        self.state.join(
            member.number, _inbox(member), ack_wait_ns=ack_wait * SECOND_NS, max_in_flight=member.max_in_flight
        )

    def leave(self, member: Member) -> None:
        """Let a member go; what it holds goes to the others, or waits for the next."""
        self.members.pop(member.number, None)
        self.last = member
        self._unlisten(member)
        self.state.leave(member.number, self._clock.now_ns())
        self._arm()
        self.wake()

    def set_failing(self, member: Member, failing: bool) -> None:
        """A member's client doesn't answer heartbeats, or does again."""
        self.state.set_failing(member.number, failing)

    def set_present(self, member: Member) -> None:
        """A member's client is there: it gets what was kept for it."""
        if self._stop_awaiting(member):
            self.state.set_present(member.number)
            self.wake()

    def hear_acks(self) -> None:
        """Take what has arrived on the ack inboxes, now."""
        for member in self.members.values():
            if member.acks is not None:
                member.acks.dispatch()

    def stop(self) -> None:
        """Send and hear nothing more; what has arrived counts, and the state stays with the stream until that is closed."""
        self.hear_acks()
        self.closed = True
        for member in self.members.values():
            self._unlisten(member)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Stop, and be forgotten by the stream."""
        self.stop()
        self.stream.readers.pop(self, None)

    # what the stream tells

    def appended(self, admission: Admission) -> None:
        """Messages were stored."""
        if self.members:
            self.wake()

    def deleted(self, sequences: Sequence[int]) -> None:
        """Messages were deleted."""
        if self.state.forget(sequences):
            self._changed()
            self.wake()  # it may have stood still for want of their acks

    def trimmed(self, first: int) -> None:
        """Everything below a sequence has gone."""
        gone = self.state.forget_below(first)
        self._changed()
        if gone:
            self.wake()

    def stream_closed(self) -> None:
        """The channel was deleted."""
        self.close()

    # sending

    def wake(self) -> None:
        """Send as soon as the loop comes round."""
        if not self._pump_planned and not self.closed and not self._congested:
            self._pump_planned = True
            self._clock.call_soon(self._pump)

    def _pump(self) -> None:
        """One bounded piece of sending; plans the next one if there is more to do."""
        self._pump_planned = False
        if self.closed or self._congested or self.stream.offline is not None or not self.members:
            return
        try:
            more = self._send_again() and self._send_new()
        except CorruptRecord as error:
            self.stream.damaged(error)
            return
        self._bus.flush_soon()
        if more:
            self.wake()

    def _send_again(self) -> bool:
        """Send what is due again. Returns whether new messages may follow."""
        sequences = self.state.due(self._clock.now_ns(), PUMP_RECORDS_MAX)
        if not sequences:
            self._arm()
            return True
        values = self.stream.get_many(sequences)
        gone = [sequence for sequence, value in zip(sequences, values, strict=True) if value is None]
        if gone:
            self.state.forget(gone)
        delivery = self._send([value for value in values if value is not None], redelivery=True)
        if delivery.blocked == USED_UP:
            self.wake()
        return False

    def _send_new(self) -> bool:
        """Send new messages. Returns whether there may be more to send at once."""
        state, stream = self.state, self.stream
        limit = min(state.room, PUMP_RECORDS_MAX)
        if state.next_seq > stream.committed_seq or not limit:
            return False
        values, covered = stream.read(state.next_seq, limit, PUMP_BYTES_MAX)
        if not values:
            state.next_seq = covered + 1
            return True
        delivery = self._send(values, redelivery=False)
        if delivery.consumed == len(values):
            state.next_seq = covered + 1
        return delivery.blocked == USED_UP

    def _send(self, values: Sequence[bytes], *, redelivery: bool) -> Delivery:
        delivery = self.state.deliver(
            self._bus.engine,
            self.stream.account,
            values,
            self._clock.now_ns(),
            bytes_max=PUMP_BYTES_MAX,
            redelivery=redelivery,
        )
        if delivery.delivered:
            self._sent.messages += delivery.delivered
            self._sent.bytes += delivery.bytes
            self._changed()
            self._arm()
        if delivery.blocked == CONGESTED:
            self._congested = True
            self._bus.when_drained(delivery.conn, self._drained)
        for number in self.state.absent():
            self._await(number)
        return delivery

    def _await(self, number: int) -> None:
        """Nobody hears a member, whose client isn't given up: it may be on its way to another server."""
        member = self.members[number]
        if member.back is None:
            member.back = self._bus.watch(_inbox(member), lambda there: self.set_present(member) if there else None)

    def _drained(self) -> None:
        self._congested = False
        self.wake()

    # acks

    def _on_acks(self, number: int, batch: Batch) -> None:
        settled, foreign = self.state.ack(batch)
        if foreign:
            member = self.members.get(number)
            text = 'STREAM: [Client:%s] %d acks can\'t be read or are not for channel "%s"; they are ignored'
            client_id = "?" if member is None else member.client_id
            self.channel.complaints.tell(text, client_id, foreign, self.channel.name)
        if settled:
            self._changed()
            self.wake()

    # timers

    def _arm(self) -> None:
        """Make sure that the next deadline of a pending message is looked at in time."""
        due_ns = self.state.deadline_ns
        if self.closed or not due_ns or (self._timer is not None and self._timer_at_ns <= due_ns):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_ns = due_ns
        self._timer = self._clock.call_later(due_ns - self._clock.now_ns(), self._due)

    def _due(self) -> None:
        self._timer = None
        # Timers may run a moment early; the pump arms the next one if nothing is due.
        self.wake()

    def _changed(self) -> None:
        """Its state differs from what is stored."""
        if self.consumer_id and not self.closed:
            self.stream.changes.save(self)


def _inbox(member: Member) -> str:
    return member.inbox if inbox_usable(member.inbox) else NOWHERE
