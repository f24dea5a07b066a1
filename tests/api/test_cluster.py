"""Clusters on the wire: ids of peers, the rows of the system account, and infos as nats-server lays them out."""

from __future__ import annotations

import pytest

from streamd.api import cluster
from streamd.api.cluster import ClusterInfo, DesiredCluster, DesiredPeer, PeerInfo, peer_id
from streamd.api.errors import BAD_REQUEST, ApiError
from streamd.api.subjects import find, find_system


@pytest.mark.parametrize(("name", "peer"), [("n1", "fjFyEjc1"), ("n2", "44jzkV9D"), ("n3", "BXScrY9i")])
def test_peer_id(name: str, peer: str) -> None:
    """As three nats-servers of those names call each other."""
    assert peer_id(name) == peer


@pytest.mark.parametrize(
    ("subject", "handler", "arguments"),
    [
        ("META.LEADER.STEPDOWN", "meta_stepdown", []),
        ("SERVER.REMOVE", "server_remove", []),
        ("ACCOUNT.STREAM.MOVE.$G.S", "account_stream_move", ["$G", "S"]),
        ("ACCOUNT.STREAM.CANCEL_MOVE.$G.S", "account_stream_cancel_move", ["$G", "S"]),
    ],
)
def test_system_rows(subject: str, handler: str, arguments: list[str]) -> None:
    """They are the system account's alone."""
    found = find_system(f"$JS.API.{subject}")

    assert found is not None
    assert (found[0].handler, found[1]) == (handler, arguments)
    assert find(f"$JS.API.{subject}") is None
    assert find_system("$JS.API.STREAM.LIST") is None


@pytest.mark.parametrize(
    ("subject", "body", "expected"),
    [
        (
            "META.LEADER.STEPDOWN",
            b'{"placement":{"preferred":"x"}}',
            cluster.LeaderStepdownRequest(placement=cluster.Placement(preferred="x")),
        ),
        ("META.LEADER.STEPDOWN", b"", cluster.LeaderStepdownRequest()),
        ("META.LEADER.STEPDOWN", b"xx", cluster.LeaderStepdownRequest()),
        ("SERVER.REMOVE", b'{"peer":"x","peer_id":"y"}', cluster.ServerRequest(peer="x", peer_id="y")),
        ("SERVER.REMOVE", b"{}", BAD_REQUEST()),
        ("SERVER.REMOVE", b"", BAD_REQUEST()),
        (
            "ACCOUNT.STREAM.MOVE.$G.S",
            b'{"server":"x","tags":["a"]}',
            cluster.StreamMoveRequest(server="x", tags=["a"]),
        ),
        ("META.LEADER.STEPDOWN", b'{"x":1}', ApiError(400, 10025, 'invalid JSON: json: unknown field "x"')),
    ],
)
def test_system_requests(subject: str, body: bytes, expected: object) -> None:
    """Read as a clustered nats-server reads them."""
    found = find_system(f"$JS.API.{subject}")
    assert found is not None
    try:
        read: object = found[0].read(body)
    except ApiError as error:
        read = error

    assert read == expected


def test_cluster_info() -> None:
    """Order and omissions; the leader knows since when."""
    info = ClusterInfo(
        name="cc",
        raft_group="S-R3F-2bjLcbp0",
        leader="n3",
        leader_since=1_000_000_000,
        system_account=True,
        traffic_account="$SYS",
        replicas=[
            PeerInfo(name="n1", current=True, active=179198510, peer=peer_id("n1")),
            PeerInfo(name="n2", offline=True, lag=5, peer=peer_id("n2"), pending=True),
        ],
        desired=DesiredCluster(created=1, name="cc", replicas=[DesiredPeer(name="n1", peer=peer_id("n1"))]),
    )

    assert info.encode().decode() == (
        '{"name":"cc","raft_group":"S-R3F-2bjLcbp0","leader":"n3","leader_since":"1970-01-01T00:00:01Z",'
        '"system_account":true,"traffic_account":"$SYS","replicas":['
        '{"name":"n1","current":true,"active":179198510,"peer":"fjFyEjc1"},'
        '{"name":"n2","current":false,"offline":true,"active":0,"lag":5,"peer":"44jzkV9D","pending":true}],'
        '"desired":{"created":"1970-01-01T00:00:00.000000001Z","name":"cc",'
        '"replicas":[{"name":"n1","peer":"fjFyEjc1"}]}}'
    )
    assert ClusterInfo(leader="n1").wire() == {"leader": "n1"}
