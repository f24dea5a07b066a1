"""What is shown of a cluster: who leads, which replicas there are, how far they lag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.api.cluster import ClusterInfo, PeerInfo, peer_id
from streamd.api.system import MetaCluster
from streamd.config.models import SYSTEM_ACCOUNT

if TYPE_CHECKING:
    from streamd.raft.group import Group, PeerStatus
    from streamd.raft.net import NodeId
    from streamd.streams.replication.node import Replication
    from streamd.streams.stream import Stream


def name_of(node: NodeId | None) -> str:
    """The server's name in a Raft id."""
    return "" if node is None else node.rpartition("#")[0]


class View:
    """Cluster facts for answers and reports."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication

    def of_stream(self, stream: Stream) -> ClusterInfo:
        """Who serves a stream, and its consumers."""
        replication = self._replication
        if stream.replica is None:
            return ClusterInfo(name=replication.cluster, leader=replication.name)
        group = stream.replica.group
        leader = name_of(group.leader)
        since_ns = stream.replica.lead.since_ns if stream.replica.leading else 0
        return ClusterInfo(
            name=replication.cluster,
            raft_group=group.name,
            leader=leader,
            leader_since=since_ns,
            system_account=True,
            traffic_account=SYSTEM_ACCOUNT,
            replicas=self._peers(group),
        )

    @property
    def name(self) -> str:
        """This server's."""
        return self._replication.name

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self._replication.cluster

    def members(self, group: Group) -> list[PeerInfo]:
        """All replicas, for who leads a group or has led it until now."""
        peers = self._peers(group)
        if all(peer.name != self.name for peer in peers):
            peers.append(PeerInfo(name=self.name, peer=peer_id(self.name), current=True))
        return sorted(peers, key=lambda peer: peer.name)

    def meta_members(self) -> list[PeerInfo]:
        """The same of the meta group."""
        return self.members(self._replication.meta.group)

    def _peers(self, group: Group) -> list[PeerInfo]:
        """The replicas but the leader; how far they are is known where that one is."""
        leader = group.leader
        if group.leading:
            voters = group.config.voters
            return [
                _peer(status, status.node in voters) for status in sorted(group.status(), key=lambda each: each.node)
            ]
        linked = self._replication.net.linked() | {group.node}
        members = (*group.config.voters, *group.config.learners)
        return [
            PeerInfo(
                name=name_of(node), peer=peer_id(name_of(node)), offline=node not in linked, current=node == group.node
            )
            for node in members
            if node != leader
        ]

    def meta(self) -> MetaCluster:
        """The meta group, as this server sees it."""
        replication = self._replication
        group = replication.meta.group
        leader = name_of(group.leader)
        return MetaCluster(
            name=replication.cluster,
            leader=leader,
            peer=peer_id(leader) if leader else "",
            replicas=self._peers(group) if group.leading else [],
            cluster_size=len(group.config.voters),
            quorum_needed=group.config.quorum,
        )

    def problem(self) -> str | None:
        """Why this server can't follow the meta leader, None if it does."""
        group = self._replication.meta.group
        if group.leader is None:
            return "JetStream has no meta leader: fewer than a quorum of the cluster's servers reach each other"
        return None

    def ha_assets(self) -> int:
        """Raft groups here."""
        return 1 + len(self._replication.replicas)


def _peer(status: PeerStatus, voter: bool) -> PeerInfo:
    """A replica isn't current before it votes: until then the others can't do without the server that it stands in for."""
    name = name_of(status.node)
    return PeerInfo(
        name=name,
        peer=peer_id(name),
        current=voter and status.connected and status.lag == 0,
        offline=not status.connected,
        active=status.active_ns,
        lag=status.lag,
    )
