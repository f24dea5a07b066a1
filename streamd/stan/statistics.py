"""What monitoring is shown of the service. Source: the fields of nats-streaming-server 0.25.6 under `/streaming`.

What clients named need be no UTF-8; here it is, as no page could be sent otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.stan.followed import subscriptions_of
from streamd.stan.names import readable, unreadable
from streamd.stan.views import (
    ChannelLimitsView,
    ChannelView,
    ClientView,
    ServerView,
    StoreView,
    SubscriptionView,
)
from streamd.tokens import nuid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamd.config.streaming import StreamingConfig
    from streamd.stan.channels import Channel
    from streamd.stan.clients import Client
    from streamd.stan.clustered import ClusteredStreaming
    from streamd.stan.group import Group, Member
    from streamd.stan.service import Streaming
    from streamd.streams.stream import Stream


class Statistics:
    """The views of a service, or of a standby, which has none yet."""

    def __init__(
        self,
        config: StreamingConfig,
        streaming: Callable[[], Streaming | None],
        started_ns: int,
        clustered: Callable[[], ClusteredStreaming | None] = lambda: None,
    ) -> None:
        """`streaming`: the service once there is one; in a cluster, while this server leads. `clustered`: its member of
        that."""
        self._clustered = clustered
        self._config = config
        self._service = streaming
        self._started_ns = started_ns
        self._standby_id = nuid()

    @property
    def cluster_id(self) -> str:
        """The configured id."""
        return self._config.cluster_id

    @property
    def server_id(self) -> str:
        """Of this start."""
        streaming = self._service()
        return self._standby_id if streaming is None else streaming.server_id

    def state(self) -> str:
        """STANDALONE, CLUSTERED, FT_ACTIVE or FT_STANDBY."""
        if self._clustered() is not None:
            return "CLUSTERED"
        if self._config.ft_group is None:
            return "STANDALONE"
        return "FT_STANDBY" if self._service() is None else "FT_ACTIVE"

    def server(self) -> ServerView:
        """Counts and totals."""
        streaming = self._service()
        if streaming is None:
            return self._follower()
        channels = list(streaming.channels.by_name.values())
        sent = streaming.subscribing.sent
        return ServerView(
            start_ns=self._started_ns,
            clients=len(streaming.clients.by_id),
            subscriptions=sum(channel.num_subscriptions for channel in channels),
            channels=len(channels),
            total_msgs=sum(channel.stream.state.messages for channel in channels),
            total_bytes=sum(channel.stream.state.bytes for channel in channels),
            in_msgs=streaming.publishes.messages,
            in_bytes=streaming.publishes.bytes,
            out_msgs=sent.messages,
            out_bytes=sent.bytes,
            **self._member(),
        )

    def _member(self) -> dict[str, str]:
        clustered = self._clustered()
        return {} if clustered is None else {"role": clustered.role, "node_id": clustered.node_id}

    def _follower(self) -> ServerView:
        """What a server has that doesn't serve: a standby nothing, a follower the messages."""
        clustered = self._clustered()
        streams = [] if clustered is None else list(clustered.streams().values())
        return ServerView(
            start_ns=self._started_ns,
            clients=len(self._clients(subscriptions=False)),
            subscriptions=sum(map(subscriptions_of, streams)),
            channels=len(streams),
            total_msgs=sum(stream.state.messages for stream in streams),
            total_bytes=sum(stream.state.bytes for stream in streams),
            in_msgs=0,
            in_bytes=0,
            out_msgs=0,
            out_bytes=0,
            **self._member(),
        )

    def store(self) -> StoreView:
        """Kind, limits and totals."""
        config = self._config
        streams = self._streams()
        return StoreView(
            type=config.store.upper() if self._clustered() is None else f"RAFT_{config.store.upper()}",
            max_channels=config.max_channels,
            limits=_limits(config),
            channels={
                name: ChannelLimitsView(
                    limits.max_msgs, limits.max_bytes, limits.max_age_ns, limits.max_subs, limits.max_inactivity_ns
                )
                for name, limits in config.inherited_channels().items()
            },
            total_msgs=sum(stream.state.messages for stream in streams.values()),
            total_bytes=sum(stream.state.bytes for stream in streams.values()),
        )

    def _streams(self) -> dict[str, Stream]:
        streaming, clustered = self._service(), self._clustered()
        if streaming is not None:
            return {name: channel.stream for name, channel in streaming.channels.by_name.items()}
        return {} if clustered is None else clustered.streams()

    def _channel(self, name: str) -> Channel | None:
        streaming, clustered = self._service(), self._clustered()
        if streaming is not None:
            return streaming.channels.by_name.get(name)
        return None if clustered is None else clustered.channel(name)

    def _clients(self, *, subscriptions: bool) -> dict[str, Client]:
        streaming, clustered = self._service(), self._clustered()
        if streaming is not None:
            return streaming.clients.by_id
        return {} if clustered is None else clustered.clients(subscriptions=subscriptions)

    def client_names(self) -> Sequence[str]:
        """Ids, sorted."""
        return sorted(self._clients(subscriptions=False))

    def client(self, client_id: str, *, subscriptions: bool) -> ClientView | None:
        """One client."""
        client = self._clients(subscriptions=True).get(client_id)
        if client is None:
            return None
        found: dict[str, list[SubscriptionView]] = {}
        for group, member in client.subscriptions.values() if subscriptions else ():
            found.setdefault(readable(group.channel.name), []).append(_view(group, member, offline=False))
        return ClientView(client_id, readable(client.inbox), len(client.subscriptions), found)

    def channel_names(self) -> Sequence[str]:
        """Names, sorted."""
        return sorted(map(readable, self._streams()))

    def channel(self, name: str, *, subscriptions: bool) -> ChannelView | None:
        """One channel."""
        channel = self._channel(name) or self._channel(unreadable(name))
        if channel is None:
            return None
        state = channel.stream.state
        return ChannelView(
            name,
            state.messages,
            state.bytes,
            state.first_seq if state.last_seq else 0,
            state.last_seq,
            channel.num_subscriptions,
            _subscriptions(channel) if subscriptions else (),
        )


def _limits(config: StreamingConfig) -> ChannelLimitsView:
    return ChannelLimitsView(
        config.max_msgs, config.max_bytes, config.max_age_ns, config.max_subs, config.max_inactivity_ns
    )


def _subscriptions(channel: Channel) -> list[SubscriptionView]:
    """Plain and online durables, offline durables, then queue groups."""
    groups = list(channel.groups.values())
    single = [group for group in groups if not group.queue]
    online = [_view(group, member, offline=False) for group in single for member in group.members.values()]
    offline = [_view(group, group.last, offline=True) for group in single if not group.members and group.last]
    queues: list[SubscriptionView] = []
    for group in groups:
        if group.queue and group.members:
            queues += [_view(group, member, offline=False) for member in group.members.values()]
        elif group.queue and group.last:
            queues.append(_view(group, group.last, offline=True))
    return [*online, *offline, *queues]


def _view(group: Group, member: Member, *, offline: bool) -> SubscriptionView:
    rows = {number: (pending, stalled) for number, pending, stalled in group.state.members()}
    pending, stalled = rows.get(member.number, (group.state.num_pending, False))
    return SubscriptionView(
        client_id=member.client_id,
        inbox=readable(member.inbox),
        ack_inbox=member.ack_inbox,
        durable_name=readable(group.durable),
        # Within a durable queue group the name of the group is kept as `durable:group`; this shows the group's own.
        queue_name=readable(group.queue.removeprefix(f"{group.durable}:") if group.durable else group.queue),
        is_offline=offline,
        max_inflight=member.max_in_flight,
        ack_wait_s=member.ack_wait,
        last_sent=group.last_sent,
        pending_count=pending,
        is_stalled=stalled,
    )
