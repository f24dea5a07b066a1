"""A few histories of a group under crashes, partitions and a network that loses, doubles and delays; the simulator has more."""

from __future__ import annotations

import random

import pytest

from streamd.raft import Fixes, NotLeader, Options, Overloaded
from tests.raft.cluster import Cluster, Node
from tests.raft.doubles import MS

TIMES = {
    "heartbeat_ns": 50 * MS,
    "election_min_ns": 160 * MS,
    "election_max_ns": 300 * MS,
    "quorum_timeout_ns": 300 * MS,
    "tail_bytes": 2_000,
    "recent_bytes": 1_000,
}


class Trouble:
    """One history from a seed, and what must hold at every moment of it."""

    def __init__(self, seed: int, fixes: Fixes) -> None:
        self.cluster = Cluster(3 if seed % 2 else 5, seed=seed, options=Options(fixes=fixes, **TIMES))
        self.cluster.loss = self.cluster.doubles = 0.05
        self.cluster.delays = 0.1
        self.rng = random.Random(seed)
        self.leaders: dict[int, str] = {}  # by term
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.proposed = 0

    def run(self, ms: int) -> None:
        cluster, rng = self.cluster, self.rng
        cluster.bootstrap()
        end, crash, part = ms * MS, 700 * MS, 900 * MS
        while cluster.world.now_ns < end:
            cluster.world.run(rng.randint(1, 8) * MS)
            self.load()
            self.check()
            if cluster.world.now_ns > crash:
                crash += 700 * MS
                self.crash()
            if cluster.world.now_ns > part:
                part += 900 * MS
                cluster.heal()
                cluster.split(*rng.sample(list(cluster.nodes), len(cluster.nodes) // 2), silent=rng.random() < 0.5)
        self.rest()

    def load(self) -> None:
        for group in self.cluster.groups():
            try:
                for _ in range(self.rng.randint(1, 4)):
                    group.propose(b"%d" % self.proposed + b"x" * self.rng.randint(0, 60))
                    self.proposed += 1
            except (NotLeader, Overloaded):
                continue
        for node in self.cluster.nodes.values():
            if node.host is not None and self.rng.random() < 0.1:
                node.save("g")
                node.group().applied(node.machines["g"].applied)
        leader = self.cluster.leader()
        if leader is not None and self.rng.random() < 0.01:
            leader.transfer(None, lambda done: None)

    def check(self) -> None:
        for group in self.cluster.groups():
            if group.replica.core.leads:
                assert self.leaders.setdefault(group.term, group.node) == group.node
        for node in self.cluster.nodes.values():
            machine = node.machines.get("g")
            if machine is not None:
                for index, term, command in machine.entries[machine.checked :]:
                    assert self.committed.setdefault(index, (term, command)) == (term, command)
                machine.checked = len(machine.entries)

    def crash(self) -> None:
        leader, up = self.cluster.leader(), [node for node in self.cluster.nodes.values() if node.host is not None]
        chance = self.rng.random()
        if chance < 0.1:
            victims = up
        elif chance < 0.5 and leader is not None:
            victims = [self.cluster.nodes[leader.node]]
        else:
            victims = up[:1]
        for victim in victims:
            victim.crash()
            self.cluster.world.later(self.rng.randint(10, 900) * MS, lambda node=victim: self.start(node))  # type: ignore[misc]

    def start(self, node: Node) -> None:
        if node.host is None:
            self.cluster.start(node.node)

    def rest(self) -> None:
        """Everything is well again: they come to agree, and serve."""
        cluster = self.cluster
        cluster.heal()
        cluster.loss = cluster.doubles = cluster.delays = 0.0
        cluster.world.run(1_500 * MS)
        cluster.elect().propose(b"the last")
        cluster.settle()
        self.check()
        assert len(self.committed) > 100


@pytest.mark.parametrize("seed", range(1, 7))
def test_nothing_that_was_committed_is_lost(seed: int) -> None:
    Trouble(seed, Fixes()).run(4_000)


def test_without_the_guard_it_is() -> None:
    """The checks above see something."""
    wrong = 0
    for seed in range(1, 9):
        try:
            Trouble(seed, Fixes(guard=False)).run(4_000)
        except AssertionError:
            wrong += 1

    assert wrong > 0
