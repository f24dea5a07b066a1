"""Subscribing, unsubscribing, and what becomes of a client's subscriptions when it goes.

Guarantee:  an answer leaves once what it says is durable; the answer to a subscription comes before its first message, and
            its ack inbox is listened on before that.
Source:     nats-streaming-server 0.25.6: the order of checks and the texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd._engine import CorruptRecord, StanGroup, stan_channel_valid
from streamd.stan import errors
from streamd.stan.group import Group, Member, Sent
from streamd.stan.names import shown, text
from streamd.stan.schema_pb2 import First, LastReceived, NewOnly, SequenceStart, SubscriptionRequest, TimeDeltaStart
from streamd.tokens import nuid

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from streamd.config.streaming import StreamingConfig
    from streamd.errors import StoreError
    from streamd.stan.channels import Channel, Channels
    from streamd.stan.clients import Client, Clients
    from streamd.streams.changes import After, Rows

    #: Takes the ack inbox, or "" and the error.
    Answer = Callable[[str, str], None]

POSITIONS: Final = {NewOnly, LastReceived, TimeDeltaStart, SequenceStart, First}
_SENDING: Final = {
    NewOnly: "new-only",
    LastReceived: "last message",
    TimeDeltaStart: "from time",
    SequenceStart: "from sequence",
    First: "from beginning",
}


def check(request: SubscriptionRequest) -> None:
    """What can be told from a request alone. Errors: Refused."""
    if not request.clientID:
        raise errors.Refused(errors.NO_CLIENT_ID)
    if request.ackWaitInSecs < 1:
        raise errors.Refused(errors.BAD_ACK_WAIT)
    if request.maxInFlight < 1:
        raise errors.Refused(errors.BAD_MAX_IN_FLIGHT)
    if request.startPosition not in POSITIONS:
        raise errors.Refused(errors.BAD_START)
    if not stan_channel_valid(text(request.subject)):
        raise errors.Refused(errors.BAD_SUBJECT)


def start_sequence(channel: Channel, request: SubscriptionRequest, now_ns: int) -> int:
    """The first sequence that a new subscription is to get. Errors: CorruptRecord."""
    stream = channel.stream
    last = stream.committed_seq
    first = max(stream.state.first_seq, 1)
    position = request.startPosition
    if position == First:
        return first
    if position == LastReceived:
        return max(last, first)
    if position == SequenceStart:
        return last + 1 if request.startSequence > last else max(request.startSequence, first)
    if position == TimeDeltaStart:
        return max(stream.first_since(now_ns - request.startTimeDelta), 1)
    return last + 1


class Subscribing:
    """The subscriptions of all channels."""

    def __init__(self, channels: Channels, clients: Clients, config: StreamingConfig, log: logging.Logger) -> None:
        self._channels = channels
        self._clients = clients
        self._config = config
        self._log = log
        self.sent = Sent()

    # new ones

    def subscribe(self, client: Client, request: SubscriptionRequest, answer: Answer) -> None:
        """Serve a checked request of a registered client."""

        def opened(channel: Channel | None, reason: str) -> None:
            if channel is None:
                answer("", reason)
                return
            channel.stream.changes.rows(lambda rows: self._admit(rows, channel, client, request, answer))

        self._channels.open(text(request.subject), opened)

    def _admit(
        self, rows: Rows, channel: Channel, client: Client, request: SubscriptionRequest, answer: Answer
    ) -> After | None:
        """A change: find or make the group, and write the member down."""
        try:
            if not self._clients.holds(client):
                raise errors.Refused(errors.CLIENT_UNKNOWN)
            if channel.going:
                self.subscribe(client, request, answer)  # to the one that comes after it
                return None
            if channel.stream.offline is not None:
                raise errors.Refused(channel.stream.offline)
            if text(request.inbox) in channel.stream.published:
                raise errors.Refused(errors.BAD_INBOX)
            group, fresh = self._group(rows, channel, client, request)
        except errors.Refused as refused:
            answer("", str(refused))
            return None
        except CorruptRecord as error:
            channel.stream.damaged(error)
            answer("", channel.stream.offline or str(error))
            return None
        resumed = not fresh and not group.members
        before = group.last
        ack_inbox = f"_INBOX.{nuid()}"
        member = group.admit(
            client.client_id, text(request.inbox), ack_inbox, request.maxInFlight, request.ackWaitInSecs
        )
        client.subscriptions[ack_inbox] = (group, member)
        group.store(rows)

        def after(error: StoreError | None) -> None:
            if error is not None:
                client.subscriptions.pop(ack_inbox, None)
                group.members.pop(member.number, None)
                group.last = before
                if fresh:
                    self._remove(group)
                answer("", str(error))
                return
            if group.closed or member.number not in group.members:
                answer("", errors.CLIENT_UNKNOWN)
                return
            verb = "Started new" if fresh else "Resumed" if resumed else "Added member to"
            self._trace(verb, group, member, f", sending {_SENDING[request.startPosition]}" if fresh else "")
            answer(ack_inbox, "")
            group.join(member)
            if client.failures:
                group.set_failing(member, True)

        return after

    def _group(self, rows: Rows, channel: Channel, client: Client, request: SubscriptionRequest) -> tuple[Group, bool]:
        """The group that a request means, and whether it was made for it. Errors: Refused, CorruptRecord."""
        queue, durable = text(request.qGroup), text(request.durableName)
        if queue and durable:
            if ":" in durable:
                raise errors.Refused(errors.BAD_DURABLE_NAME)
            queue = f"{durable}:{queue}"
        existing = channel.queues.get(queue) if queue else channel.durables.get((client.client_id, durable))
        if existing is not None and not queue and existing.members:
            if not self._config.replace_durable:
                raise errors.Refused(errors.DURABLE_TAKEN)
            for member in list(existing.members.values()):
                self._take_leave(rows, existing, member, forget=False)
        if existing is not None and not existing.members:
            return existing, False  # its place was never given up
        most = channel.limits.max_subs
        if 0 < most <= channel.num_subscriptions:
            raise errors.Refused(errors.SUBSCRIPTIONS_MAX)
        if existing is not None:
            return existing, False
        now_ns = channel.stream.services.clock.now_ns()
        start = start_sequence(channel, request, now_ns)
        state = StanGroup(channel.name, queue=bool(queue), patient=channel.clustered, next_seq=start)
        stored = 0 if channel.stream.in_memory else channel.stream.next_consumer_id()
        identity, channel.next_id = channel.next_id, channel.next_id + 1
        group = Group(channel, identity, durable=durable, queue=queue, state=state, consumer_id=stored, sent=self.sent)
        self.add(group, client.client_id)
        return group, True

    def add(self, group: Group, client_id: str) -> None:
        """Enter a group in its channel's books."""
        channel = group.channel
        channel.groups[group.identity] = group
        channel.next_id = max(channel.next_id, group.identity + 1)
        if group.queue:
            channel.queues[group.queue] = group
        elif group.durable:
            channel.durables[(client_id, group.durable)] = group
        channel.stream.readers[group] = None

    def _remove(self, group: Group) -> None:
        channel = group.channel
        channel.groups.pop(group.identity, None)
        if channel.queues.get(group.queue) is group:
            del channel.queues[group.queue]
        for key in [key for key, other in channel.durables.items() if other is group]:
            del channel.durables[key]
        group.close()

    # going

    def unsubscribe(
        self, channel: Channel, client_id: str, inbox: str, *, forget: bool, answer: Callable[[str], None]
    ) -> None:
        """Take a subscription away, found by its ack inbox or its own; `forget` removes a durable's position too."""

        def change(rows: Rows) -> After | None:
            found = self._find(channel, inbox)
            if found is None:
                answer(errors.SUBSCRIPTION_UNKNOWN)
                return None
            group, member = found
            if member.client_id != client_id:
                answer(errors.CLIENT_UNKNOWN)
                return None
            self._take_leave(rows, group, member, forget=forget)
            return lambda error: answer("" if error is None else str(error))

        found = self._find(channel, inbox)
        if found is not None:
            found[0].hear_acks()
        channel.stream.changes.rows(change)

    @staticmethod
    def _find(channel: Channel, inbox: str) -> tuple[Group, Member] | None:
        for group in channel.groups.values():
            for member in group.members.values():
                if inbox and inbox in (member.ack_inbox, member.inbox):
                    return group, member
        return None

    def leave_all(self, rows: Rows, client: Client) -> None:
        """In a change: a client has gone, and its subscriptions with it; durable ones stay without it."""
        for group, member in list(client.subscriptions.values()):
            if not group.closed and member.number in group.members:
                self._take_leave(rows, group, member, forget=False)
        client.subscriptions.clear()

    def _take_leave(self, rows: Rows, group: Group, member: Member, *, forget: bool) -> None:
        client = self._clients.by_id.get(member.client_id)
        if client is not None:
            client.subscriptions.pop(member.ack_inbox, None)
        group.leave(member)
        channel = group.channel
        lasting = bool(group.durable) and not (forget and not group.members)
        if group.members or lasting:
            group.store(rows)
            self._trace("Removed member from" if group.members else "Suspended", group, member, "")
        else:
            self._remove(group)
            if not channel.stream.closed:
                rows.drop(channel.stream, group.consumer_id)
            self._trace("Removed", group, member, "")
        if not channel.active:
            channel.used_ns = channel.stream.services.clock.now_ns()
            self._channels.watch_use(channel)

    def _trace(self, verb: str, group: Group, member: Member, more: str) -> None:
        line = "STREAM: [Client:%s] %s %ssubscription, subject=%s, inbox=%s, %ssubid=%d%s, seq=%d"
        name = f"queue={group.queue}, " if group.queue else f"durable={group.durable}, " if group.durable else ""
        self._log.debug(
            line, member.client_id, verb, group.kind, shown(group.channel.name), shown(member.inbox), shown(name),
            group.identity, more, group.state.next_seq,
        )  # fmt: skip
