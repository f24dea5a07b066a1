"""Nodes with groups in one process, over simulated time, network and disks."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING
from zlib import crc32

from streamd.raft import Config, Group, Host, Options
from tests.raft.doubles import MS, Disk, NodeClock, World
from tests.raft.quick import quick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.raft.net import NodeId


class Machine:
    """Keeps what it is given; its own durable state lags behind."""

    def __init__(self, node: Node, durable: list[tuple[int, int, bytes]], applied: int) -> None:
        self.node = node
        self.group: Group | None = None
        self.entries = list(durable)
        self.applied = applied
        self.roles: list[tuple[bool, NodeId | None, int]] = []
        self.offers = 0
        self.checked = 0  # entries that a test has looked at

    def committed(self, index: int, term: int, command: bytes) -> None:
        assert index > self.applied
        self.applied = index
        self.entries.append((index, term, command))

    def role_changed(self) -> None:
        assert self.group is not None
        self.roles.append((self.group.leading, self.group.leader, self.group.term))

    def behind(self, leader: NodeId) -> None:
        self.offers += 1
        self.node.clock.call_later(5 * MS, lambda: self.fetch(leader))

    def fetch(self, leader: NodeId) -> None:
        """The leader's durable state, taken over and made durable at once."""
        assert self.group is not None
        name = self.group.name
        other = self.node.cluster.nodes.get(leader)
        if other is None or other.host is None or name not in other.host.groups:
            return
        group, machine = other.host.groups[name], other.machines[name]
        index = group.commit_index
        if index <= self.applied or machine.applied < self.group.first_index - 1:
            return
        self.entries = [entry for entry in machine.entries if entry[0] <= index]
        self.applied = index
        self.node.save(name)
        self.group.installed(index, *group.at(index))


class Node:
    """One node: what is left of it when it is down is its disk and the machines' durable states."""

    def __init__(self, cluster: Cluster, name: NodeId) -> None:
        self.cluster = cluster
        self.node = name
        self.disk = Disk(cluster.world, cluster.numbers)
        self.host: Host | None = None
        self.machines: dict[str, Machine] = {}
        self.durable: dict[str, tuple[list[tuple[int, int, bytes]], int]] = {}
        self.lives = 0
        self._handler: Callable[[bytes], None] = lambda data: None
        self._link: Callable[[NodeId, bool], None] = lambda node, up: None

    # Net

    def send(self, to: NodeId, *pieces: bytes) -> None:
        self.cluster.carry(self.node, to, b"".join(pieces))

    def flush(self) -> None:
        pass

    def on_frame(self, handler: Callable[[bytes], None]) -> None:
        self._handler = handler

    def call(self, *args: object, **more: object) -> None:
        raise NotImplementedError

    def serve(self, *args: object) -> None:
        raise NotImplementedError

    def linked(self) -> set[NodeId]:
        return self.cluster.reachable(self.node)

    def on_link(self, handler: Callable[[NodeId, bool], None]) -> None:
        self._link = handler

    def get(self, data: bytes) -> None:
        if self.host is not None:
            self._handler(data)

    def link(self, node: NodeId, up: bool) -> None:
        if self.host is not None:
            self._link(node, up)

    # life

    def start(self) -> None:
        self.lives += 1
        self.clock = NodeClock(self.cluster.world, crc32(self.node.encode()) % 10**7 * MS + 17 * MS * self.lives)
        self.disk.clock = self.clock
        self.machines = {}
        rng = random.Random(f"{self.node}{self.lives}{self.cluster.seed}")
        self.host = Host(
            self, self.clock, rng, self.disk.at_rest, options=self.cluster.options, log=logging.getLogger("raft")
        )
        for group in list(self.durable):
            self.open(group)

    def open(self, name: str) -> Group:
        assert self.host is not None
        durable, applied = self.durable.setdefault(name, ([], 0))
        machine = self.machines[name] = Machine(self, durable, applied)
        machine.group = self.host.open(name, self.disk.storage(name), machine, applied)
        return machine.group

    def save(self, name: str) -> None:
        """The machine's state is durable."""
        machine = self.machines[name]
        self.durable[name] = (list(machine.entries), machine.applied)

    def crash(self) -> None:
        if self.host is not None:
            self.clock.alive = False
            self.host.close()
            self.host = None
            self.disk.crash()
            self.cluster.news(self.node)

    def group(self, name: str = "g") -> Group:
        assert self.host is not None
        return self.host.groups[name]


class Cluster:
    """Some nodes, and links between those that are up."""

    def __init__(
        self, nodes: int | Iterable[NodeId] = 3, *, seed: int = 1, options: Options | None = None, start: bool = True
    ) -> None:
        self.seed = seed
        self.world = World(seed)
        self.options = options or quick()
        self.numbers: dict[str, int] = {}
        self.latency_ns = (MS // 5, MS // 2)
        self.loss = self.doubles = self.delays = 0.0
        self.cut: set[frozenset[NodeId]] = set()
        self.silent: set[frozenset[NodeId]] = set()  # cut, and nobody is told
        self.taps: list[Callable[[NodeId, NodeId, bytes], bool]] = []  # False: lost
        self._known: dict[NodeId, set[NodeId]] = {}
        names = [f"n{number}#i" for number in range(1, nodes + 1)] if isinstance(nodes, int) else list(nodes)
        self.nodes = {name: Node(self, name) for name in names}
        if start:
            for node in self.nodes.values():
                self.start(node.node)

    # the network

    def reachable(self, node: NodeId) -> set[NodeId]:
        if self.nodes[node].host is None and node not in self._starting:
            return set()
        return {
            other
            for other, there in self.nodes.items()
            if other != node and there.host is not None and frozenset((node, other)) not in self.cut
        }

    _starting: frozenset[NodeId] = frozenset()

    def news(self, *about: NodeId) -> None:
        """Tell everybody what has changed between them."""
        for node in self.nodes.values():
            known = self._known.setdefault(node.node, set())
            now = self.reachable(node.node)
            self._known[node.node] = set(now)
            for other in sorted(known - now):
                node.link(other, False)
            for other in sorted(now - known):
                node.link(other, True)

    def carry(self, sender: NodeId, to: NodeId, data: bytes) -> None:
        rng = self.world.rng
        pair = frozenset((sender, to))
        if pair in self.cut or pair in self.silent or to not in self.nodes:
            return
        if not all(tap(sender, to, data) for tap in self.taps):
            return
        if self.loss and rng.random() < self.loss:
            return
        for _ in range(2 if self.doubles and rng.random() < self.doubles else 1):
            delay = rng.randint(*self.latency_ns)
            if self.delays and rng.random() < self.delays:
                delay += rng.randint(0, 300 * MS)
            self.world.later(delay, lambda: self.nodes[to].get(data))

    def split(self, *nodes: NodeId, silent: bool = False) -> None:
        """Cut these off from the others."""
        pairs = {frozenset((one, other)) for one in nodes for other in self.nodes if other not in nodes}
        if silent:
            self.silent |= pairs
        else:
            self.cut |= pairs
            self.news(*nodes)

    def heal(self) -> None:
        self.cut.clear()
        self.silent.clear()
        self.news()

    # life

    def start(self, *nodes: NodeId) -> None:
        for node in nodes:
            self._starting = frozenset((node,))
            self._known[node] = self.reachable(node)
            self.nodes[node].start()
            self._starting = frozenset()
        self.news()

    def bootstrap(
        self, name: str = "g", nodes: Iterable[NodeId] | None = None, *, leader: NodeId | None = None
    ) -> None:
        voters = list(nodes or self.nodes)
        for node in voters:
            self.nodes[node].open(name).bootstrap(voters, leader=leader)

    def leader(self, name: str = "g") -> Group | None:
        """Of the latest term, if it serves already."""
        leading = [group for group in self.groups(name) if group.leading]
        return max(leading, key=lambda group: group.term, default=None)

    def groups(self, name: str = "g") -> list[Group]:
        return [node.host.groups[name] for node in self.nodes.values() if node.host and name in node.host.groups]

    def elect(self, name: str = "g", limit_ms: int = 5_000) -> Group:
        assert self.world.run(limit_ms * MS, lambda: self.leader(name)), "nobody leads"
        leader = self.leader(name)
        assert leader is not None
        return leader

    def settle(self, name: str = "g", limit_ms: int = 10_000) -> None:
        """Until all members have applied the same."""

        def settled() -> bool:
            leader = self.leader(name)
            if leader is None:
                return False
            members = [self.nodes[n] for n in (*leader.config.voters, *leader.config.learners) if n in self.nodes]
            applied = {n.machines[name].applied for n in members if n.host is not None and name in n.machines}
            ends = {n.group(name).last_index for n in members if n.host is not None and name in n.machines}
            return (
                len(ends) == 1
                and all(n.group(name).replica.core.applied in ends for n in members if n.host)
                and bool(applied)
            )

        assert self.world.run(limit_ms * MS, settled), "they don't come to agree"

    def check(self, name: str = "g") -> None:
        """Nobody has applied what another has not, at the same place; logs match where terms do."""
        chains: dict[int, tuple[int, bytes]] = {}
        for node in self.nodes.values():
            machine = node.machines.get(name)
            for index, term, command in machine.entries if machine is not None else ():
                assert chains.setdefault(index, (term, command)) == (term, command), f"entry {index}"

    def config(self, name: str = "g") -> Config:
        leader = self.leader(name)
        assert leader is not None
        return leader.config
