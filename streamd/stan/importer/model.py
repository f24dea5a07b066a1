"""What was found in the directory of a nats-streaming-server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamd.stan.importer.slices import Messages


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a channel, decrypted. The time is Unix, in nanoseconds."""

    sequence: int
    timestamp_ns: int
    reply: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Client:
    """A client that was connected when the server stopped. Intervals in seconds."""

    id: str
    hb_inbox: str
    conn_id: bytes
    protocol: int
    ping_interval: int
    ping_max_out: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription, with the position it had reached.

    `queue_group` of a durable queue group is "durable:group", and its `durable_name` is empty, as the original keeps them.
    A member without `client_id` is the shadow of a durable queue group whose last member has left. `is_closed` says that a
    plain durable is suspended; its `client_id` is then still part of its identity. `pending` are the sequences sent and not
    acked, ascending; some may no longer be in the channel, which counts as acked.
    """

    id: int
    client_id: str
    queue_group: str
    inbox: str
    ack_inbox: str
    max_in_flight: int
    ack_wait_s: int
    durable_name: str
    last_sent: int
    is_durable: bool
    is_closed: bool
    pending: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """plain, durable, queue or durable queue."""
        if self.queue_group:
            return "durable queue" if self.is_durable else "queue"
        return "durable" if self.durable_name else "plain"

    @property
    def is_shadow(self) -> bool:
        """Whether it stands for a durable queue group without members."""
        return self.is_durable and bool(self.queue_group) and not self.client_id

    @property
    def is_offline(self) -> bool:
        """Whether no client receives through it."""
        return self.is_closed or self.is_shadow

    def with_pending(self, pending: set[int]) -> Subscription:
        """The same with other pending sequences."""
        return replace(self, pending=tuple(sorted(pending)))


@dataclass(frozen=True, slots=True)
class ChannelData:
    """One channel. An empty one has first 0 and last 0; one whose messages are all gone has first = last + 1."""

    name: str
    first_seq: int
    last_seq: int
    count: int
    #: As the original counts: the encoded message and 40 bytes each.
    stored_bytes: int
    subscriptions: tuple[Subscription, ...]
    log: Messages = field(repr=False)

    def position(self, one: Subscription) -> int:
        """The last sequence that a subscription was sent, or any member of its queue group."""
        if not one.queue_group:
            return one.last_sent
        return max(member.last_sent for member in self.subscriptions if member.queue_group == one.queue_group)

    def messages(self) -> Iterator[StoredMessage]:
        """Streams them from the files, ascending, each checked against its checksum. Errors: ImportRefused."""
        return self.log.read(self.first_seq)


@dataclass(frozen=True, slots=True)
class StanStore:
    """The whole. `node_id` is empty unless the server was clustered. `notices` is what an operator should know."""

    cluster_id: str
    node_id: str
    clients: tuple[Client, ...]
    channels: tuple[ChannelData, ...]
    notices: tuple[str, ...] = ()
