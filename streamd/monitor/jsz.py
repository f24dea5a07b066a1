"""JSZ: what a server's JetStream holds, by account, stream and consumer.

Source: nats-server 2.15.2. A cluster adds its meta group through `ClusterFacts`; who leads a stream or consumer is in the
infos that the API shows as well.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from streamd.api.account import ApiStats
from streamd.api.system import (
    PAGE,
    UNLIMITED,
    AccountDetail,
    JetStreamBounds,
    JetStreamInfo,
    JetStreamSettings,
    JetStreamStats,
    JszOptions,
    MetaCluster,
    RaftGroupDetail,
    StreamDetail,
)
from streamd.core.access import DEFAULT_ACCOUNT

if TYPE_CHECKING:
    from streamd.api.cluster import ClusterInfo
    from streamd.config.models import JetStreamConfig
    from streamd.streams.jetstream import JetStream
    from streamd.streams.stream import Stream

#: So many infos are made before the loop gets to serve clients again: about a millisecond.
_AT_ONCE: Final = 50
#: What nats-server shows as the interval beside `sync_always`: tools look at the latter only if there is one.
_SYNC_NS: Final = 120_000_000_000


class ClusterFacts(Protocol):
    """What a server that is one of several knows beside its own streams. Calls are short."""

    def meta(self) -> MetaCluster:
        """The meta group, as this server sees it."""

    def problem(self) -> str | None:
        """Why this server can't follow the meta leader, None if it does. Becomes the text of /healthz."""

    def ha_assets(self) -> int:
        """Raft groups here."""


class Settled:
    """JetStream's configuration in force, as reports show it."""

    def __init__(self, config: JetStreamConfig, jetstream: JetStream, store_dir: str) -> None:
        sync = config.sync_interval
        self.settings = JetStreamSettings(
            max_memory=jetstream.max_memory_bytes,
            max_storage=jetstream.max_storage_bytes,
            store_dir=store_dir,
            sync_interval=sync if isinstance(sync, int) else _SYNC_NS if sync == "always" else 0,
            sync_always=sync == "always",
            strict=config.strict,
        )
        self.bounds = JetStreamBounds(
            max_request_batch=config.limits.max_request_batch or 0,
            max_ack_pending=config.limits.max_ack_pending or 0,
            max_duplicate_window=config.limits.duplicate_window_ns or 0,
        )


def stats(jetstream: JetStream, cluster: ClusterFacts | None) -> JetStreamStats:
    """What all streams together hold and reserve."""
    memory, storage, _consumers = jetstream.usage()
    reserved = {True: 0, False: 0}
    for stream in jetstream.streams.values():
        reserved[stream.in_memory] += max(stream.config.max_bytes, 0)
    return JetStreamStats(
        memory=memory,
        storage=storage,
        reserved_memory=reserved[True],
        reserved_storage=reserved[False],
        accounts=1,
        ha_assets=cluster.ha_assets() if cluster is not None else 0,
        api=ApiStats(total=jetstream.api.total, errors=jetstream.api.errors),
    )


async def jsz(
    jetstream: JetStream | None,
    settled: Settled | None,
    cluster: ClusterFacts | None,
    options: JszOptions,
    *,
    server_id: str,
    now_ns: int,
) -> JetStreamInfo | None:
    """The answer, None if another server leads and only the leader was asked. Lets the loop go on in between."""
    if jetstream is None or settled is None:
        return None if options.leader_only else JetStreamInfo(server_id=server_id, now=now_ns, disabled=True)
    meta = cluster.meta() if cluster is not None else None
    if options.leader_only and meta is not None and meta.leader != jetstream.server_name:
        return None
    held = list(jetstream.streams.values())
    info = JetStreamInfo(
        **stats(jetstream, cluster).__dict__,
        server_id=server_id,
        now=now_ns,
        config=settled.settings,
        limits=settled.bounds,
        streams=len(held),
        consumers=sum(stream.num_consumers for stream in held),
        messages=sum(stream.state.messages for stream in held),
        bytes=sum(stream.state.bytes for stream in held),
        meta_cluster=meta,
        total=1,
    )
    if options.raft:
        await _count_led(jetstream, held, info)
    streams = options.streams or options.consumer
    if options.account == DEFAULT_ACCOUNT or (_page(options) and (options.accounts or streams) and not options.account):
        info.account_details = [await account_detail(jetstream, options, streams=streams)]
    return info


def _page(options: JszOptions) -> bool:
    """Whether the only account is on the page asked for."""
    limit = options.limit or PAGE
    return limit < 0 or options.offset <= 0


async def account_detail(jetstream: JetStream, options: JszOptions, *, streams: bool) -> AccountDetail:
    """The account of all streams. Lets the loop go on in between."""
    memory, storage, _consumers = jetstream.usage()
    detail = AccountDetail(
        name=DEFAULT_ACCOUNT,
        id=DEFAULT_ACCOUNT,
        memory=memory,
        storage=storage,
        reserved_memory=UNLIMITED,
        reserved_storage=UNLIMITED,
        api=ApiStats(level=0, total=jetstream.api.total, errors=jetstream.api.errors),
    )
    turns = _Turns()
    for stream in sorted(jetstream.streams.values(), key=lambda stream: stream.name) if streams else ():
        await turns.take()
        if stream.closed or stream.offline is not None:
            continue
        one = await _stream_detail(jetstream, stream, options, turns)
        if not options.stream_leader_only or _leads(jetstream, one.cluster):
            detail.stream_detail.append(one)
    return detail


async def _stream_detail(jetstream: JetStream, stream: Stream, options: JszOptions, turns: _Turns) -> StreamDetail:
    info = jetstream.api.streams.info(stream, listed=True)
    detail = StreamDetail(
        name=stream.name,
        created=info.created,
        cluster=info.cluster,
        config=info.config if options.config else None,
        state=info.state,
    )
    if options.raft and info.cluster is not None:
        detail.stream_raft_group = info.cluster.raft_group
    if options.consumer:
        for consumer in jetstream.api.consumers.infos(stream):
            await turns.take()
            direct = consumer.config is not None and consumer.config.direct
            if not options.config:
                consumer.config = None
            if not direct:
                detail.consumer_detail.append(consumer)
                if options.raft and consumer.cluster is not None and consumer.cluster.raft_group:
                    group = RaftGroupDetail(name=consumer.name, raft_group=consumer.cluster.raft_group)
                    detail.consumer_raft_groups.append(group)
            elif options.direct_consumer:
                detail.direct_consumer_detail.append(consumer)
    return detail


async def _count_led(jetstream: JetStream, streams: list[Stream], info: JetStreamInfo) -> None:
    for number, stream in enumerate(streams):
        if stream.closed or stream.offline is not None:
            continue
        if _leads(jetstream, jetstream.api.streams.info(stream, listed=True).cluster):
            info.streams_leader += 1
            info.consumers_leader += sum(not consumer.config.direct for consumer in stream.consumers.values())
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)


class _Turns:
    """Lets the loop go on in between."""

    def __init__(self) -> None:
        self._made = 0

    async def take(self) -> None:
        """Before one more info is made."""
        self._made += 1
        if self._made >= _AT_ONCE:
            self._made = 0
            await asyncio.sleep(0)


def _leads(jetstream: JetStream, cluster: ClusterInfo | None) -> bool:
    return cluster is None or cluster.leader == jetstream.server_name
