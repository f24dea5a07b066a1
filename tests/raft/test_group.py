"""Groups of several nodes: elections, replication, crashes."""

from __future__ import annotations

import pytest

from tests.raft.cluster import MS, Cluster


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
def test_leader_is_elected_and_commits(nodes: int) -> None:
    cluster = Cluster(nodes)
    cluster.bootstrap()
    leader = cluster.elect()
    index = leader.propose(b"one")

    assert cluster.world.run(100 * MS, lambda: leader.commit_index >= index)

    cluster.settle()

    for node in cluster.nodes.values():
        assert [entry[2] for entry in node.machines["g"].entries] == [b"one"]
