"""Requests and answers of `$SYS.REQ`, and of the monitoring pages that are the same: options, JetStream, health.

Source: nats-server 2.15.2. What only a cluster knows is optional: whoever serves one fills it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from streamd.api.account import ApiStats
from streamd.api.cluster import ClusterInfo, PeerInfo
from streamd.api.consumer import ConsumerInfo
from streamd.api.stream import StreamConfig, StreamState
from streamd.api.wire import ALWAYS, Flag, Int, Text, Texts, TimeNs, Uint64, Wire

#: How a stream's or a server's unlimited reservation looks: -1 in the original, which prints it without a sign.
UNLIMITED: Final = 2**64 - 1
JETSTREAM_ENABLED: Final = 1
#: Accounts of JSZ and connections of CONNZ on a page, unless the request says otherwise.
PAGE: Final = 1024


class ServerInfo(Wire):
    """Who answers. Shapes: `seq` counts what this server has said; `flags` is a sum of bits. `time` is nanoseconds here."""

    name: Annotated[str, ALWAYS]
    host: Annotated[str, ALWAYS]
    id: Annotated[str, ALWAYS]
    cluster: str = ""
    domain: str = ""
    ver: Annotated[str, ALWAYS]
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, str] = Field(default_factory=dict)
    jetstream: Annotated[bool, ALWAYS] = False
    flags: Annotated[int, ALWAYS] = 0
    seq: Annotated[int, ALWAYS] = 0
    time: Annotated[TimeNs, ALWAYS] = 0


class UserInfo(Wire):
    """$SYS.REQ.USER.INFO."""

    user: Annotated[str, ALWAYS] = ""
    account: Annotated[str, ALWAYS] = ""
    account_name: str = ""


class ServerFilter(Wire):
    """Which servers a request is for. Shapes: parts of names unless `exact_match`; all of the tags."""

    go_name: ClassVar[str] = "EventFilterOptions"

    server_name: Text = ""
    cluster: Text = ""
    host: Text = ""
    exact_match: Flag = False
    tags: Texts = Field(default_factory=list)
    domain: Text = ""

    def fits(self, server: ServerInfo) -> bool:
        """Whether it is for this server."""
        pairs = ((self.server_name, server.name), (self.cluster, server.cluster), (self.host, server.host))
        if any(wanted and (wanted != own if self.exact_match else wanted not in own) for wanted, own in pairs):
            return False
        own_tags = {tag.lower() for tag in server.tags}
        if any(tag.strip().lower() not in own_tags for tag in self.tags):
            return False
        return not self.domain or self.domain == server.domain


class JszOptions(Wire):
    """What is to be told of JetStream. `leader_only`: only the meta leader answers. `raft` counts what is led here, too."""

    go_name: ClassVar[str] = "JSzOptions"

    account: Text = ""
    accounts: Flag = False
    streams: Flag = False
    consumer: Flag = False
    direct_consumer: Flag = False
    config: Flag = False
    leader_only: Flag = False
    offset: Int = 0
    limit: Int = 0
    raft: Flag = False
    stream_leader_only: Flag = False


class ConnzOptions(Wire):
    """Which connections, in which order. Shapes: `state` 0 is open, 1 closed, 2 both; `auth` shows users and accounts."""

    go_name: ClassVar[str] = "ConnzOptions"

    sort: Text = ""
    auth: Flag = False
    subscriptions: Flag = False
    subscriptions_detail: Flag = False
    offset: Int = 0
    limit: Int = 0
    cid: Uint64 = 0
    state: Int = 0
    user: Text = ""
    acc: Text = ""
    filter_subject: Text = ""


class HealthzOptions(Wire):
    """How far to look."""

    go_name: ClassVar[str] = "HealthzOptions"
    spelled: ClassVar[dict[str, str]] = {
        "js-enabled": "js_enabled",
        "js-enabled-only": "js_enabled_only",
        "js-server-only": "js_server_only",
        "js-meta-only": "js_meta_only",
    }

    js_enabled: Flag = False
    js_enabled_only: Flag = False
    js_server_only: Flag = False
    js_meta_only: Flag = False
    account: Text = ""
    stream: Text = ""
    consumer: Text = ""
    details: Flag = False


class JszRequest(JszOptions, ServerFilter):
    """JSZ over subjects."""

    go_name: ClassVar[str] = "JszEventOptions"


class ConnzRequest(ConnzOptions, ServerFilter):
    """CONNZ over subjects."""

    go_name: ClassVar[str] = "ConnzEventOptions"


class HealthzRequest(HealthzOptions, ServerFilter):
    """HEALTHZ over subjects."""

    go_name: ClassVar[str] = "HealthzEventOptions"


class ConnectionInfo(Wire):
    """One client. `start` is nanoseconds here; bytes and messages are `in` where the client sent them."""

    cid: Annotated[int, ALWAYS]
    kind: str = "Client"
    type: str = "nats"
    ip: Annotated[str, ALWAYS]
    port: Annotated[int, ALWAYS]
    start: Annotated[TimeNs, ALWAYS]
    uptime: Annotated[str, ALWAYS]
    pending_bytes: Annotated[int, ALWAYS]
    in_msgs: Annotated[int, ALWAYS]
    out_msgs: Annotated[int, ALWAYS]
    in_bytes: Annotated[int, ALWAYS]
    out_bytes: Annotated[int, ALWAYS]
    subscriptions: Annotated[int, ALWAYS]
    name: str = ""
    lang: str = ""
    version: str = ""
    authorized_user: str = ""
    account: str = ""


class Connections(Wire):
    """CONNZ: one page; `total` counts what fits the options."""

    server_id: Annotated[str, ALWAYS]
    now: Annotated[TimeNs, ALWAYS]
    num_connections: Annotated[int, ALWAYS] = 0
    total: Annotated[int, ALWAYS] = 0
    offset: Annotated[int, ALWAYS] = 0
    limit: Annotated[int, ALWAYS] = 0
    connections: Annotated[list[ConnectionInfo], ALWAYS] = Field(default_factory=list)


class JetStreamSettings(Wire):
    """The configuration in force. Units: bytes; `sync_interval` ns."""

    max_memory: Annotated[int, ALWAYS] = 0
    max_storage: Annotated[int, ALWAYS] = 0
    store_dir: str = ""
    sync_interval: int = 0
    sync_always: bool = False
    domain: str = ""
    strict: bool = False


class JetStreamBounds(Wire):
    """What a stream or consumer may ask for, where that is bounded."""

    max_request_batch: int = 0
    max_ack_pending: int = 0
    max_ha_assets: int = 0
    max_duplicate_window: int = 0


class JetStreamStats(Wire):
    """What is held. Units: bytes. `ha_assets`: streams and consumers with more than one replica, and the meta group."""

    memory: Annotated[int, ALWAYS] = 0
    storage: Annotated[int, ALWAYS] = 0
    reserved_memory: Annotated[int, ALWAYS] = 0
    reserved_storage: Annotated[int, ALWAYS] = 0
    accounts: Annotated[int, ALWAYS] = 0
    ha_assets: Annotated[int, ALWAYS] = 0
    api: Annotated[ApiStats, ALWAYS] = Field(default_factory=ApiStats)


class MetaSnapshot(Wire):
    """What the meta group has not compacted. Units: bytes, ns; `last_time` is nanoseconds here."""

    pending_entries: Annotated[int, ALWAYS] = 0
    pending_size: Annotated[int, ALWAYS] = 0
    last_time: Annotated[TimeNs, ALWAYS] = 0
    last_duration: int = 0


class MetaCluster(Wire):
    """The meta group. Shapes: `peer` is the leader's id; `replicas` are all others; `name` is the cluster's."""

    name: str = ""
    leader: str = ""
    peer: str = ""
    replicas: list[PeerInfo] = Field(default_factory=list)
    cluster_size: Annotated[int, ALWAYS] = 0
    quorum_needed: Annotated[int, ALWAYS] = 0
    rescue: bool = False
    pending: Annotated[int, ALWAYS] = 0
    pending_requests: Annotated[int, ALWAYS] = 0
    pending_infos: Annotated[int, ALWAYS] = 0
    snapshot: Annotated[MetaSnapshot, ALWAYS] = Field(default_factory=MetaSnapshot)


class RaftGroupDetail(Wire):
    """The Raft group of a consumer."""

    name: Annotated[str, ALWAYS] = ""
    raft_group: str = ""


class StreamDetail(Wire):
    """One stream, with its consumers if they were asked for. `created` is nanoseconds here."""

    name: Annotated[str, ALWAYS]
    created: Annotated[TimeNs, ALWAYS]
    cluster: ClusterInfo | None = None
    config: StreamConfig | None = None
    state: Annotated[StreamState, ALWAYS]
    consumer_detail: list[ConsumerInfo] = Field(default_factory=list)
    direct_consumer_detail: list[ConsumerInfo] = Field(default_factory=list)
    stream_raft_group: str = ""
    consumer_raft_groups: list[RaftGroupDetail] = Field(default_factory=list)


class AccountDetail(JetStreamStats):
    """One account, with its streams if they were asked for."""

    name: Annotated[str, ALWAYS]
    id: Annotated[str, ALWAYS]
    stream_detail: list[StreamDetail] = Field(default_factory=list)

    def wire(self) -> dict[str, Any]:
        """The names stand first."""
        out = super().wire()
        return {"name": out.pop("name"), "id": out.pop("id"), **out}


class JetStreamInfo(JetStreamStats):
    """JSZ. Shapes: `streams_leader` and `consumers_leader` only with `raft`; `total` counts accounts."""

    server_id: Annotated[str, ALWAYS]
    now: Annotated[TimeNs, ALWAYS]
    disabled: bool = False
    config: Annotated[JetStreamSettings, ALWAYS] = Field(default_factory=JetStreamSettings)
    limits: JetStreamBounds | None = None
    streams: Annotated[int, ALWAYS] = 0
    streams_leader: int = 0
    consumers: Annotated[int, ALWAYS] = 0
    consumers_leader: int = 0
    messages: Annotated[int, ALWAYS] = 0
    bytes: Annotated[int, ALWAYS] = 0
    meta_cluster: MetaCluster | None = None
    account_details: list[AccountDetail] = Field(default_factory=list)
    total: Annotated[int, ALWAYS] = 0


class HealthError(Wire):
    """One thing that is wrong."""

    type: Annotated[str, ALWAYS]
    account: str = ""
    stream: str = ""
    consumer: str = ""
    error: Annotated[str, ALWAYS]


class Health(Wire):
    """HEALTHZ. Shapes: `error` or, with details, `errors`; over HTTP the code is the response's own."""

    status: Annotated[str, ALWAYS] = "ok"
    status_code: int = 200
    error: str = ""
    errors: list[HealthError] = Field(default_factory=list)
