"""Clusters on the wire: where replicas live, who leads them, and the requests that move them.

Source: nats-server 2.15.2. The requests of the system account stand here too: META, SERVER and ACCOUNT.
"""

from __future__ import annotations

import hashlib
import string
from typing import Annotated, ClassVar, Final

from pydantic import Field

from streamd.api.answer import Done
from streamd.api.wire import ALWAYS, Text, Texts, TimeNs, Wire

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PEER_ID_LEN: Final = 8


def peer_id(server_name: str) -> str:
    """How a server is called among peers: 8 digits of base 62 from the SHA-256 of its name."""
    digest = hashlib.sha256(server_name.encode()).digest()
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest[:_PEER_ID_LEN])


class Placement(Wire):
    """Where replicas should live, or who should lead."""

    go_name: ClassVar[str] = "Placement"

    cluster: Text = ""
    tags: Texts = Field(default_factory=list)
    preferred: Text = ""


class PeerInfo(Wire):
    """One replica, seen by the server that answers. Units: `active` is ns since it was heard of, `lag` entries."""

    name: Annotated[str, ALWAYS] = ""
    current: Annotated[bool, ALWAYS] = False
    offline: bool = False
    active: Annotated[int, ALWAYS] = 0
    lag: int = 0
    peer: Annotated[str, ALWAYS] = ""
    pending: bool = False


class DesiredPeer(Wire):
    """One replica that there should be."""

    name: Annotated[str, ALWAYS] = ""
    offline: bool = False
    peer: Annotated[str, ALWAYS] = ""


class DesiredOrigin(Wire):
    """What was asked for before the change."""

    replicas: Annotated[int, ALWAYS] = 0
    placement: Placement | None = None
    retention: str = ""


class DesiredStatus(Wire):
    """What a change waits for. Shapes: `type` is meta, membership, snapshot, catchup and the like."""

    description: Annotated[str, ALWAYS] = ""
    type: Annotated[str, ALWAYS] = ""
    err: str = ""


class DesiredCluster(Wire):
    """Where a stream or consumer is on its way to. `created` is nanoseconds here."""

    created: Annotated[TimeNs, ALWAYS] = 0
    name: str = ""
    replicas: list[DesiredPeer] = Field(default_factory=list)
    origin: DesiredOrigin | None = None
    status: DesiredStatus | None = None


class ClusterInfo(Wire):
    """Who serves a stream or consumer; without a cluster only `leader` is set. `replicas` are the others.

    Shapes: `leader_since` (nanoseconds here) is known by the leader alone; `system_account` and `traffic_account` say
    where the group's traffic goes.
    """

    name: str = ""
    raft_group: str = ""
    leader: str = ""
    leader_since: TimeNs = 0
    system_account: bool = False
    traffic_account: str = ""
    replicas: list[PeerInfo] = Field(default_factory=list)
    desired: DesiredCluster | None = None


class LeaderStepdownRequest(Wire):
    """META.LEADER.STEPDOWN, STREAM.LEADER.STEPDOWN and CONSUMER.LEADER.STEPDOWN."""

    go_name: ClassVar[str] = "JSApiLeaderStepdownRequest"

    placement: Placement | None = None


class PeerRequest(Wire):
    """STREAM.PEER.REMOVE and its kin: a server's name, or its id among peers."""

    go_name: ClassVar[str] = "JSApiStreamRemovePeerRequest"

    peer: Text = ""


class ServerRequest(Wire):
    """SERVER.REMOVE. Shapes: `peer` is a server's name; `peer_id` stands instead of it."""

    go_name: ClassVar[str] = "JSApiMetaServerRemoveRequest"

    peer: Text = ""
    peer_id: Text = ""


class StreamMoveRequest(Wire):
    """ACCOUNT.STREAM.MOVE: away from a server, to where the tags say."""

    go_name: ClassVar[str] = "JSApiMetaServerStreamMoveRequest"

    server: Text = ""
    cluster: Text = ""
    domain: Text = ""
    tags: Texts = Field(default_factory=list)


class MetaLeaderStepdownResponse(Done):
    """META.LEADER.STEPDOWN."""

    kind: ClassVar[str] = "meta_leader_stepdown_response"


class StreamLeaderStepdownResponse(Done):
    """STREAM.LEADER.STEPDOWN."""

    kind: ClassVar[str] = "stream_leader_stepdown_response"


class ConsumerLeaderStepdownResponse(Done):
    """CONSUMER.LEADER.STEPDOWN."""

    kind: ClassVar[str] = "consumer_leader_stepdown_response"


class StreamRemovePeerResponse(Done):
    """STREAM.PEER.REMOVE."""

    kind: ClassVar[str] = "stream_remove_peer_response"


class StreamEvacuatePeerResponse(Done):
    """STREAM.PEER.EVACUATE."""

    kind: ClassVar[str] = "stream_evacuate_peer_response"


class StreamCancelMoveResponse(Done):
    """STREAM.CANCEL_MOVE and ACCOUNT.STREAM.CANCEL_MOVE."""

    kind: ClassVar[str] = "stream_cancel_move_response"


class ConsumerRemovePeerResponse(Done):
    """CONSUMER.PEER.REMOVE."""

    kind: ClassVar[str] = "consumer_remove_peer_response"


class ConsumerEvacuatePeerResponse(Done):
    """CONSUMER.PEER.EVACUATE."""

    kind: ClassVar[str] = "consumer_evacuate_peer_response"


class MetaServerRemoveResponse(Done):
    """SERVER.REMOVE."""

    kind: ClassVar[str] = "meta_server_remove_response"
