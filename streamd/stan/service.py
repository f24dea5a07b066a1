"""NATS Streaming of one server: a service on subjects, as any client could be one.

Place in the walk: subjects of the protocol → a handler here → channels, clients, subscriptions → streams; publishes go their
own way (publishes.py).
Guarantee:  an answer leaves once what it says is durable; closing waits for what the client sent before.
Source:     the protocol of NATS Streaming, version 1, as nats-streaming-server 0.25.6 speaks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from streamd._engine import CorruptRecord, StanPublishers
from streamd.errors import StoreError
from streamd.stan import errors
from streamd.stan.channels import Channels
from streamd.stan.clients import Client, Clients
from streamd.stan.complaints import Complaints
from streamd.stan.group import SERVICE, Group
from streamd.stan.names import Subjects, client_id_valid, shown, text
from streamd.stan.publishes import Publish, Publishes
from streamd.stan.schema_pb2 import (
    CloseRequest,
    CloseResponse,
    ConnectRequest,
    ConnectResponse,
    Ping,
    PingResponse,
    SubscriptionRequest,
    SubscriptionResponse,
    UnsubscribeRequest,
)
from streamd.stan.subscribing import Subscribing, check
from streamd.tokens import nuid

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping, Sequence

    from streamd._engine import Batch
    from streamd._engine import Message as Request
    from streamd.config.streaming import StreamingConfig
    from streamd.core.bus import Binding
    from streamd.stan.channels import Channel, Streams
    from streamd.streams.changes import After, Rows
    from streamd.streams.jetstream import JetStream
    from streamd.streams.shelf import Shelf

Parsed = TypeVar("Parsed", bound=Message)
Response = ConnectResponse | PingResponse | SubscriptionResponse | CloseResponse


def parse(kind: type[Parsed], payload: bytes) -> Parsed | None:
    """A request; None if it is broken, which a field of another type than the schema's makes it too."""
    parsed = kind()
    try:
        parsed.ParseFromString(payload)
    except DecodeError:
        return None
    known = kind.DESCRIPTOR.fields_by_number
    unknown = UnknownFieldSet(parsed)
    return None if any(unknown[index].field_number in known for index in range(len(unknown))) else parsed


class Streaming:
    """The service of one cluster id."""

    def __init__(
        self,
        jetstream: JetStream,
        config: StreamingConfig,
        log: logging.Logger,
        *,
        shelf: Shelf | None = None,
        streams: Streams | None = None,
        elsewhere: Callable[[], Mapping[str, Sequence[str]]] = dict,
    ) -> None:
        """Takes up what the store holds. In a cluster its group gives the shelf and makes the streams, and `elsewhere` tells of
        those that others have (see `Channels`). Errors: StoreError if what is stored is another cluster id's."""
        services = jetstream.services
        self.config = config
        self.subjects = Subjects(config.cluster_id, config.discover_prefix)
        self._bus = services.bus
        self._commits = services.commits
        self._log = log
        self._complaints = Complaints(log, services.clock)
        # The narrowest entry that covers a channel decides, but patterns don't reach subjects of the protocols.
        native = [(f"{prefix}.>", False) for prefix in config.own_prefixes]
        native += [(name, limits.native) for name, limits in reversed(config.inherited_channels().items())]
        self.publishers = StanPublishers(self.subjects.stored, native)
        self.channels = Channels(
            jetstream, streams or jetstream, config, self.publishers, log, self._complaints, elsewhere
        )
        self.clients = Clients(self._bus, services.clock, config, self.publishers, log, self._lost)
        encryption = jetstream.encryption
        about: dict[str, Any] = {"cluster_id": config.cluster_id, **encryption.about}
        self.shelf = shelf or jetstream.shelf(SERVICE, about, stored=not self.channels.memory)
        changes = self.shelf.changes
        self.publishes = Publishes(
            self._bus, self._commits, changes, self.channels, self.publishers, self._complaints, ahead=streams is None
        )
        self.channels.activity = self.publishes
        self.subscribing = Subscribing(self.channels, self.clients, config, log)
        self._taken_over = shelf is not None  # from another leader
        self._laid_down = False
        self._open: dict[str, Request] = {}  # requests without an answer, by reply subject
        self._bindings: list[Binding] = []
        self._examined: set[str] = set()  # client ids that somebody else wants
        if (stored_id := self.shelf.about["cluster_id"]) != config.cluster_id:
            raise StoreError(
                f'cluster ID "{config.cluster_id}" does not match recovered value of "{stored_id}": '
                f"set streaming.cluster_id to that, or choose another dir"
            )
        if encryption.cipher is not None:
            # The store may be older than its encryption.
            self.shelf.describe(encryption.about)
            log.info("STREAM: Store encryption is enabled (%s)", encryption.cipher.name)
        self.server_id = nuid()
        try:
            self._recover()
        except BaseException:
            self.close()  # heartbeats have begun
            raise

    # life

    def _recover(self) -> None:
        self._log.info("STREAM: Recovering the state...")
        for number, entry in self.shelf.entries.items():
            self.clients.add(Client.restored(number, entry))
        channels = self.channels.recover()
        for channel in channels:
            for consumer_id, (definition, state) in channel.stream.kept.items():
                if definition["service"] == SERVICE:
                    self._recover_group(channel, consumer_id, definition, state)
            channel.stream.kept.clear()
        if channels or self.clients.by_id:
            self._log.info("STREAM: Recovered %d channel(s)", len(channels))
        else:
            self._log.info("STREAM: No recovered state")

    def _recover_group(
        self, channel: Channel, consumer_id: int, definition: dict[str, Any], state: bytes | None
    ) -> None:
        try:
            # Acks may have been on their way to a leader that is gone.
            group = Group.restored(
                channel, consumer_id, definition, state, self.subscribing.sent, at_once=self._taken_over
            )
        except CorruptRecord as error:
            channel.stream.go_offline(
                f'channel "{shown(channel.name)}": {error}; it is offline and nothing of it was deleted'
            )
            return
        owner = next(iter(group.members.values()), group.last)
        self.subscribing.add(group, owner.client_id if owner is not None else "")
        for member in list(group.members.values()):
            client = self.clients.by_id.get(member.client_id)
            if client is None:
                # The commit that took the client away didn't hold this any more; there is nobody to send to.
                group.leave(member)
            else:
                client.subscriptions[member.ack_inbox] = (group, member)

    def start(self) -> None:
        """Serve."""
        for channel in self.channels.by_name.values():
            for group in channel.groups.values():
                group.start()
        subjects, bind = self.subjects, self._bus.bind
        self._bindings += [
            bind([subjects.connect], self._each(ConnectRequest, self._connect)),
            bind([subjects.pings], self._each(Ping, self._ping)),
            bind([subjects.subscribe], self._each(SubscriptionRequest, self._subscribe)),
            bind([subjects.unsubscribe], self._each(UnsubscribeRequest, self._unsubscribe)),
            bind([subjects.close_subscription], self._each(UnsubscribeRequest, self._close_subscription)),
            bind([subjects.close], self._each(CloseRequest, self._close)),
        ]
        self.publishes.start(f"{subjects.publish}.>")

    def close(self) -> None:
        """Stop serving. What has arrived is still stored; nothing is told to clients, who may come back."""
        for binding in self._bindings:
            binding.close()
        self.clients.close()
        self.channels.close()
        for channel in self.channels.by_name.values():
            for group in channel.groups.values():
                group.stop()
        self._complaints.close()

    def lay_down(self) -> list[Publish]:
        """Another server of the cluster serves now, and nothing of this one is left; see `unanswered`. Returns publishes that
        weren't handed over."""
        self._laid_down = True
        self.close()
        for channel in self.channels.by_name.values():
            for group in list(channel.groups.values()):
                group.close()
        return self.publishes.lay_down()

    def unanswered(self) -> list[Request]:
        """Once it is laid down: the requests that wait for an answer, in order, for whoever serves next."""
        found, self._open = list(self._open.values()), {}
        return found

    # requests

    def _each(self, kind: type[Parsed], handle: Callable[[Request, Parsed | None], None]) -> Callable[[Batch], None]:
        """A handler of batches from one of parsed requests; None for what can't be parsed."""

        def receive(batch: Batch) -> None:
            for index in range(len(batch)):
                message = batch[index]
                if message.reply:
                    self._open[message.reply] = message
                handle(message, parse(kind, message.payload))

        return receive

    def _reply(self, to: str, response: Response) -> None:
        if self._laid_down and response.error:
            return  # the next one knows better
        self._open.pop(to, None)
        if to:
            self._bus.publish(to, response.SerializeToString())

    # connections

    def _connect(self, message: Request, request: ConnectRequest | None) -> None:
        client_id = "?" if request is None else text(request.clientID)

        def refuse(reason: str) -> None:
            self._complaints.tell("STREAM: [Client:%s] Connect failed; %s", client_id, reason)
            self._reply(message.reply, ConnectResponse(error=reason))

        if request is None or not request.heartbeatInbox:
            refuse(errors.BAD_CONNECT)
            return
        if not client_id_valid(client_id):
            refuse(errors.BAD_CLIENT_ID)
            return
        if client_id in self._examined:
            refuse(errors.CLIENT_TAKEN)
            return
        existing = self.clients.by_id.get(client_id)
        if existing is None:
            self._register(message.reply, request, refuse)
            return
        if self._taken_over and existing.conn_id and existing.conn_id == request.connID:
            # The leader before stored it and couldn't answer any more.
            self._accept(message.reply, existing)
            return
        old = existing
        self._examined.add(client_id)

        def alive() -> None:
            self._examined.discard(client_id)
            refuse(errors.CLIENT_TAKEN)

        def dead() -> None:
            self._log.info("STREAM: [Client:%s] Replaced, as its old connection does not answer", client_id)
            self._go(old, lambda error: replace(error))

        def replace(error: StoreError | None) -> None:
            self._examined.discard(client_id)
            if error is not None:
                refuse(str(error))
            else:
                self._register(message.reply, request, refuse)

        self.clients.examine(old, alive, dead)

    def _register(self, reply: str, request: ConnectRequest, refuse: Callable[[str], None]) -> None:
        if self._laid_down:
            return
        client = Client(
            0,
            text(request.clientID),
            text(request.heartbeatInbox),
            request.connID,
            request.protocol,
            request.pingInterval,
            request.pingMaxOut,
        )
        self.clients.add(client)

        def done(error: StoreError | None) -> None:
            if error is not None:
                self.clients.remove(client)
                refuse(str(error))
                return
            self._accept(reply, client)

        client.number = self.shelf.add(client.entry(), done)

    def _accept(self, reply: str, client: Client) -> None:
        self._log.debug("STREAM: [Client:%s] Connected (Inbox=%s)", client.client_id, shown(client.inbox))
        subjects = self.subjects
        response = ConnectResponse(
            pubPrefix=subjects.publish,
            subRequests=subjects.subscribe,
            unsubRequests=subjects.unsubscribe,
            closeRequests=subjects.close,
            subCloseRequests=subjects.close_subscription,
            protocol=1,
        )
        if client.protocol >= 1:
            response.pingRequests = subjects.pings
            response.pingInterval = client.ping_interval
            response.pingMaxOut = client.ping_max_out
        self._reply(reply, response)

    def _ping(self, message: Request, request: Ping | None) -> None:
        if request is None or not message.payload or not message.reply:
            self._open.pop(message.reply, None)
            return
        client = self.clients.by_conn_id.get(request.connID)
        if client is None:
            self._reply(message.reply, PingResponse(error=errors.CLIENT_REPLACED))
            return
        self.clients.pinged(client)
        self._reply(message.reply, PingResponse())

    def _close(self, message: Request, request: CloseRequest | None) -> None:
        if request is None:
            self._reply(message.reply, CloseResponse(error=errors.BAD_CLOSE))
            return
        client_id = text(request.clientID)
        client = self.clients.by_id.get(client_id)
        if client is None:
            self._complaints.tell('STREAM: Unknown client "%s" in close request', client_id)
            self._reply(message.reply, CloseResponse(error=errors.CLIENT_UNKNOWN))
            return

        def done(error: StoreError | None) -> None:
            self._log.debug("STREAM: [Client:%s] Closed (Inbox=%s)", client_id, shown(client.inbox))
            self._reply(message.reply, CloseResponse(error="" if error is None else str(error)))

        self._go(client, done)

    def _lost(self, client: Client) -> None:
        """Its heartbeats failed."""
        self._go(client, lambda _error: None)

    def _go(self, client: Client, done: Callable[[StoreError | None], None]) -> None:
        """A client goes: what it has sent counts, then it and its subscriptions are taken away."""
        for group, _member in list(client.subscriptions.values()):
            group.hear_acks()

        def stored() -> None:
            if self._laid_down:
                return
            if not self.clients.holds(client):
                done(None)
                return
            self.clients.remove(client)
            self.shelf.changes.rows(change)

        def change(rows: Rows) -> After | None:
            self.subscribing.leave_all(rows, client)
            self.shelf.drop(client.number, done)
            return None

        self.publishes.barrier(stored)

    # subscriptions

    def _subscribe(self, message: Request, request: SubscriptionRequest | None) -> None:
        def answer(ack_inbox: str, error: str) -> None:
            if error:
                client_id, subject = ("?", "") if request is None else (text(request.clientID), text(request.subject))
                line = 'STREAM: [Client:%s] Subscription to "%s" failed; %s'
                self._complaints.tell(line, client_id, subject, error)
            self._reply(message.reply, SubscriptionResponse(ackInbox=ack_inbox, error=error))

        if request is None:
            answer("", errors.BAD_SUBSCRIPTION)
            return
        try:
            check(request)
        except errors.Refused as refused:
            answer("", str(refused))
            return
        client = self.clients.by_id.get(text(request.clientID))
        if client is None:
            answer("", errors.CLIENT_UNKNOWN)
            return
        for group, member in client.subscriptions.values() if self._taken_over else ():
            if (group.channel.name, member.inbox) == (text(request.subject), text(request.inbox)):
                answer(member.ack_inbox, "")  # the leader before stored it and couldn't answer any more
                return
        self.subscribing.subscribe(client, request, answer)

    def _unsubscribe(self, message: Request, request: UnsubscribeRequest | None) -> None:
        self._end(message, request, forget=True)

    def _close_subscription(self, message: Request, request: UnsubscribeRequest | None) -> None:
        self._end(message, request, forget=False)

    def _end(self, message: Request, request: UnsubscribeRequest | None, *, forget: bool) -> None:
        def answer(error: str) -> None:
            if error:
                client_id = "?" if request is None else text(request.clientID)
                self._complaints.tell("STREAM: [Client:%s] Unsubscribe failed; %s", client_id, error)
            self._reply(message.reply, SubscriptionResponse(error=error))

        if request is None:
            answer(errors.BAD_UNSUBSCRIBE)
            return
        channel = self.channels.by_name.get(text(request.subject))
        if channel is None:
            answer(errors.CHANNEL_UNKNOWN)
            return
        found, client_id, inbox = channel, text(request.clientID), text(request.inbox)

        def stored() -> None:
            if not self._laid_down:
                self.subscribing.unsubscribe(found, client_id, inbox, forget=forget, answer=answer)

        self.publishes.barrier(stored)
