"""What the streaming server shows of itself to monitoring: plain values, taken at one moment.

The names and units are those of nats-streaming-server 0.25.6 under `/streaming` where nothing else is said. Not here: how it
is rendered (monitor/).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """One subscription: plain, durable, member of a queue group, or a durable (group) that nobody serves now.

    Shapes:  `durable_name` and `queue_name` are the names the client gave, empty if none; both are set for a member of a
             durable queue group. An offline one keeps the ids and inboxes of its last client.
    Units:   `ack_wait_s` in seconds; `last_sent` is a sequence, 0 before the first; `pending_count` in messages.
    """

    client_id: str
    inbox: str
    ack_inbox: str
    durable_name: str = ""
    queue_name: str = ""
    is_offline: bool = False
    max_inflight: int = 0
    ack_wait_s: int = 0
    last_sent: int = 0
    pending_count: int = 0
    is_stalled: bool = False


@dataclass(frozen=True, slots=True)
class ClientView:
    """One connected client.

    Shapes:  `subscriptions` by channel, each in the order they were made; empty unless they were asked for.
    """

    client_id: str
    heartbeat_inbox: str
    subs_count: int
    subscriptions: Mapping[str, Sequence[SubscriptionView]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One channel.

    Shapes:  `subscriptions`: plain and online durables as they came, offline durables, then queue groups with an offline
             durable group as one; empty unless they were asked for. `subs_count` counts the same.
    Units:   `bytes` as the limits count them; `first_seq` and `last_seq` are 0 while nothing was ever published.
    """

    name: str
    msgs: int
    bytes: int
    first_seq: int
    last_seq: int
    subs_count: int
    subscriptions: Sequence[SubscriptionView] = ()


@dataclass(frozen=True, slots=True)
class ChannelLimitsView:
    """Limits of a channel. Units: messages, bytes, ns, subscriptions, ns; 0 is unlimited."""

    max_msgs: int
    max_bytes: int
    max_age_ns: int
    max_subscriptions: int
    max_inactivity_ns: int


@dataclass(frozen=True, slots=True)
class StoreView:
    """The store as a whole.

    Shapes:  `type` is MEMORY or FILE (RAFT_FILE in a cluster); `channels` maps the configured names, wildcards included, to
             their limits after inheritance.
    Units:   `max_channels` in channels, 0 is unlimited; `total_msgs` and `total_bytes` are what the channels hold now.
    """

    type: str
    max_channels: int
    limits: ChannelLimitsView
    channels: Mapping[str, ChannelLimitsView]
    total_msgs: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ServerView:
    """The streaming server.

    Shapes:  `role` (Leader, Follower, Candidate) and `node_id` are empty outside of a cluster; `subscriptions` counts offline
             durables too.
    Units:   `start_ns` since the epoch. `total_…`: what the channels hold now. `in_…`: publishes that could be decoded, also
             rejected ones; `out_…`: deliveries with redeliveries; both in messages and in bytes of protobuf since the start.
    """

    start_ns: int
    clients: int
    subscriptions: int
    channels: int
    total_msgs: int
    total_bytes: int
    in_msgs: int
    in_bytes: int
    out_msgs: int
    out_bytes: int
    role: str = ""
    node_id: str = ""


class StreamingStatistics(Protocol):
    """What monitoring asks the streaming server.

    Each call is short, runs in the server's own loop and makes no more than the one view it returns: names are cheap, and only
    the views of one page are asked for. Between two calls the loop goes on, so a name may have gone when its view is asked for.
    What a view or a list holds is never changed afterwards: it is rendered in another thread.
    """

    @property
    def cluster_id(self) -> str:
        """The configured id."""

    @property
    def server_id(self) -> str:
        """Made anew at each start."""

    def state(self) -> str:
        """STANDALONE, CLUSTERED, FT_ACTIVE, FT_STANDBY, FAILED or SHUTDOWN."""

    def server(self) -> ServerView:
        """Counts that are kept as they change: this is asked for often."""

    def store(self) -> StoreView:
        """Kind, limits and totals."""

    def client_names(self) -> Sequence[str]:
        """The ids of connected clients, sorted."""

    def client(self, client_id: str, *, subscriptions: bool) -> ClientView | None:
        """One client, with its subscriptions if they are asked for; None if it isn't connected."""

    def channel_names(self) -> Sequence[str]:
        """The names of all channels, sorted."""

    def channel(self, name: str, *, subscriptions: bool) -> ChannelView | None:
        """One channel, with its subscriptions if they are asked for; None if there is none of that name."""
