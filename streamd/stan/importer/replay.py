"""What the members of a clustered server make of their log: clients and subscriptions, one entry after the other.

A channel that was deleted and created again has a higher id; entries of the older one say nothing of it. Entries that a
restarted server would apply to its channels, which were stopped before they did, are an `Ahead`.
Source: raftFSM.Apply of server/clustering.go; processConnect, closeClient, processSub, unsubscribeSub, subStore.Remove and
processReplicatedSendAndAck of server/server.go, as a member runs them that does not lead.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from streamd.stan.importer.model import Client, Subscription
from streamd.stan.importer.slices import Extent
from streamd.stan.importer.tables import client_of, subscription_of, taken_up

if TYPE_CHECKING:
    from streamd.stan.importer.records import Tell
    from streamd.stan.importer.wire import Message

PUBLISH: Final = 0
SUBSCRIBE: Final = 1
UNSUBSCRIBE: Final = 2
CLOSE: Final = 3
SENT_AND_ACKED: Final = 4
CONNECT: Final = 6
DISCONNECT: Final = 7
DELETE_CHANNEL: Final = 8
#: The leader turns every start position into this one before it writes the entry.
SEQUENCE_START: Final = 3


class Ahead(Exception):
    """The log has entries that never reached the channels' files."""


@dataclass
class Live:
    """One subscription while entries are applied. `client` is empty while it is offline."""

    state: Subscription
    client: str
    pending: set[int] = field(default_factory=set)


@dataclass
class Channel:
    """One channel while entries are applied. `groups` has the last sequence that each queue group was sent."""

    id: int
    first: int
    last: int
    stored: bool
    subs: list[Live] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)

    def members(self, group: str) -> list[Live]:
        """Of a queue group, without its shadow."""
        return [one for one in self.subs if one.client and one.state.queue_group == group]

    def add(self, one: Live) -> None:
        """Take up a subscription as it stands."""
        self.subs.append(one)
        if group := one.state.queue_group:
            self.groups[group] = max(self.groups.get(group, 0), one.state.last_sent)

    def online(self, inbox: str) -> Live | None:
        """Found by its ack inbox, else by its inbox."""
        here = [one for one in self.subs if one.client]
        by_ack = (one for one in here if one.state.ack_inbox == inbox)
        return next(by_ack, None) or next((one for one in here if one.state.inbox == inbox), None)


class Replay:
    """Applies a snapshot, then entries. Errors: ValueError for what can't be understood; Ahead."""

    def __init__(self, stored: dict[str, Extent], ids: dict[str, int], tell: Tell) -> None:
        """The channels that have files, and the ids that the log knows of them."""
        self.clients: dict[str, Client] = {}
        self.channels = {
            name: Channel(ids.get(name, 0), extent.first, extent.last, stored=True) for name, extent in stored.items()
        }
        self._tell = tell

    def restore(self, snapshot: Message) -> None:
        """Begin with a RaftSnapshot."""
        for fields in snapshot.messages(1):
            client = client_of(fields)
            self.clients[client.id] = client
        for fields in snapshot.messages(2):
            name, number = fields.text(1), fields.number(6)
            channel = self.channels.get(name)
            # Deleted since, and perhaps created again.
            if channel is None or (number and channel.id and channel.id != number):
                continue
            first, last = fields.number(2), fields.number(3)
            if last > channel.last:
                if first <= last:
                    raise Ahead(f"message {last} of channel {name}")
                # All of them had expired before this member could fetch them.
                channel.first, channel.last = first, last
            stored = [
                subscription_of(one).with_pending(set(sub.numbers(2)))
                for sub in fields.messages(4)
                for one in sub.messages(1)
            ]
            for state in taken_up(stored, self.clients, name, self._tell):
                channel.add(Live(state, "" if state.is_offline else state.client_id, set(state.pending)))

    def apply(self, operation: Message) -> None:
        """One RaftOperation."""
        kind = operation.number(1)
        if kind == PUBLISH:
            for batch in operation.messages(2):
                self._publish(batch.messages(1), operation.number(10))
        elif kind == SUBSCRIBE:
            for sub in operation.messages(3):
                self._subscribe(sub, operation.number(10))
        elif kind in (UNSUBSCRIBE, CLOSE):
            for request in operation.messages(4):
                self._leave(request, unsubscribe=kind == UNSUBSCRIBE)
        elif kind == SENT_AND_ACKED:
            for report in operation.messages(5):
                self._sent_and_acked(report)
        elif kind == CONNECT:
            for connect in operation.messages(7):
                self._connect(connect)
        elif kind == DISCONNECT:
            for request in operation.messages(8):
                self._disconnect(request.text(1))
        elif kind == DELETE_CHANNEL:
            self._delete(operation.text(9), operation.number(10))
        else:
            raise ValueError(f"operation type {kind}")

    def subscriptions(self, name: str) -> tuple[Subscription, ...]:
        """What a channel has in the end, by id."""
        found = [one.state.with_pending(one.pending) for one in self.channels[name].subs]
        return tuple(sorted(found, key=lambda one: one.id))

    def extent(self, name: str, files: Extent) -> Extent:
        """What a channel serves, by what its files hold and the log knows."""
        channel = self.channels[name]
        return files if channel.last <= files.last else Extent(channel.first, channel.last, 0, 0)

    def finish(self) -> None:
        """Errors: Ahead if a channel should exist that has no files."""
        for name, channel in self.channels.items():
            if not channel.stored:
                raise Ahead(f"the creation of channel {name}")

    def _channel(self, name: str, number: int) -> Channel | None:
        """The channel an entry is about, created if need be; None if the entry is of an older one."""
        known = self.channels.get(name)
        if known is not None and (not number or not known.id or known.id == number):
            return known
        if known is not None and known.id > number:
            return None
        if known is not None and known.stored:
            raise Ahead(f"the replacement of channel {name}")
        self.channels[name] = Channel(number, 0, 0, stored=False)
        return self.channels[name]

    def _publish(self, messages: list[Message], number: int) -> None:
        for message in messages:
            name, sequence = message.text(2), message.number(1)
            channel = self._channel(name, number)
            if channel is None:
                return
            if channel.stored and sequence > channel.last:
                raise Ahead(f"message {sequence} of channel {name}")
            channel.last = max(channel.last, sequence)

    def _connect(self, connect: Message) -> None:
        for request in connect.messages(1):
            client = Client(
                id=request.text(1),
                hb_inbox=request.text(2),
                conn_id=request.raw(4),
                protocol=request.signed(3),
                ping_interval=request.signed(5),
                ping_max_out=request.signed(6),
            )
            if connect.number(2):
                self._disconnect(client.id)
            self.clients.setdefault(client.id, client)

    def _disconnect(self, client: str) -> None:
        if self.clients.pop(client, None) is None:
            return
        for channel in self.channels.values():
            for one in [one for one in channel.subs if one.client == client]:
                remove(channel, one, unsubscribe=False)

    def _delete(self, name: str, number: int) -> None:
        known = self.channels.get(name)
        if known is None or (number and known.id and known.id != number):
            return
        if known.stored and known.id == number:
            raise Ahead(f"the deletion of channel {name}")
        if not known.stored:
            del self.channels[name]

    def _subscribe(self, entry: Message, number: int) -> None:
        for request in entry.messages(1):
            channel = self._channel(request.text(2), number)
            if channel is not None and request.text(1) in self.clients:
                subscribe(channel, request, entry.text(2), entry.number(3))

    def _leave(self, request: Message, *, unsubscribe: bool) -> None:
        channel = self.channels.get(request.text(2))
        one = channel.online(request.text(3)) if channel else None
        if channel and one and request.text(1) in self.clients:
            remove(channel, one, unsubscribe=unsubscribe)

    def _sent_and_acked(self, report: Message) -> None:
        channel = self.channels.get(report.text(1))
        inbox = report.text(2)
        found = [one for one in channel.subs if one.client and one.state.ack_inbox == inbox] if channel else []
        if channel is None or not found:
            return
        one, sent = found[0], report.numbers(3)
        one.pending |= set(sent)
        one.pending -= set(report.numbers(4))
        one.state = replace(one.state, last_sent=max([one.state.last_sent, *sent]))
        if group := one.state.queue_group:
            channel.groups[group] = max(channel.groups.get(group, 0), one.state.last_sent)


def subscribe(channel: Channel, request: Message, ack_inbox: str, number: int) -> None:
    """A SubscriptionRequest of a known client: resume what waits under its name, or begin anew."""
    group, durable_name = request.text(3), request.text(7)
    is_durable = bool(durable_name)
    known: Live | None = None
    joins = False
    if group:
        group = f"{durable_name}:{group}" if is_durable else group
        durable_name = ""
        known = next((one for one in channel.subs if not one.client and one.state.queue_group == group), None)
        joins = known is None and bool(channel.members(group))
    elif is_durable:
        key = (request.text(1), durable_name)
        known = next((one for one in channel.subs if (one.state.client_id, one.state.durable_name) == key), None)
        if known is not None and known.client:
            return  # refused as a duplicate
    state = Subscription(
        id=known.state.id if known else number,
        client_id=request.text(1),
        queue_group=group,
        inbox=request.text(4),
        ack_inbox=ack_inbox,
        max_in_flight=request.signed(5),
        ack_wait_s=request.signed(6),
        durable_name=durable_name,
        last_sent=known.state.last_sent if known else 0 if joins else _start(channel, request),
        is_durable=is_durable,
        is_closed=False,
    )
    if known is not None:
        known.state, known.client = state, state.client_id
    else:
        channel.add(Live(state, state.client_id))


def _start(channel: Channel, request: Message) -> int:
    """The sequence before the first one to deliver."""
    position, sequence = request.number(10), request.number(11)
    if position != SEQUENCE_START:
        raise ValueError(f"start position {position}, as servers before 0.16 wrote it")
    if sequence < channel.first:
        return channel.first - 1
    return channel.last if sequence > channel.last else max(sequence - 1, 0)


def remove(channel: Channel, one: Live, *, unsubscribe: bool) -> None:
    """A subscription ends; durables stay behind unless they are unsubscribed, groups only by their last member."""
    group = one.state.queue_group
    if not group:
        if one.state.is_durable and not unsubscribe:
            one.state, one.client = replace(one.state, is_closed=True), ""
        else:
            channel.subs.remove(one)
        return
    others = [member for member in channel.members(group) if member is not one]
    last_sent = channel.groups.get(group, 0)
    if others:
        channel.subs.remove(one)
        if one.state.last_sent == last_sent:
            others[0].state = replace(others[0].state, last_sent=last_sent)
    elif one.state.is_durable and not unsubscribe:
        one.state, one.client = replace(one.state, client_id="", last_sent=last_sent), ""
    else:
        channel.subs.remove(one)
        channel.groups.pop(group, None)
