"""Nodes with groups in one process: simulated time, network and disks, all from one seed.

A crash takes what is not on the disk; a commit that was under way is there whole or not at all.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from zlib import crc32

from streamd.raft import Config, Group, Host, Options, Storage
from streamd.store import LogWork, Outcome, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd._engine import Records
    from streamd.errors import StoreError
    from streamd.raft.net import NodeId
    from streamd.raft.storage import Job

MS: Final = 1_000_000


class World:
    """Time, and what is to happen."""

    def __init__(self, seed: int) -> None:
        self.now_ns = 0
        self.rng = random.Random(seed)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._numbers), call))

    def run(self, duration_ns: int, until: Callable[[], object] | None = None) -> bool:
        """Let time pass; stop early if `until` holds. Returns whether it does."""
        end = self.now_ns + duration_ns
        while self._events and self._events[0][0] <= end:
            if until is not None and until():
                return True
            self.now_ns, _, call = heapq.heappop(self._events)
            call()
        self.now_ns = end
        return until is None or bool(until())


class _Timer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class NodeClock:
    """The clock of one life of a node."""

    def __init__(self, world: World, skew_ns: int) -> None:
        self._world = world
        self._skew_ns = skew_ns
        self.alive = True

    def now_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self._world.now_ns

    def monotonic_ns(self) -> int:
        return self._world.now_ns + self._skew_ns

    def call_later(self, delay_ns: int, call: Callable[[], None]) -> _Timer:
        timer = _Timer()

        def happen() -> None:
            if self.alive and not timer.cancelled:
                call()

        self._world.later(max(delay_ns, 0), happen)
        return timer

    def call_soon(self, call: Callable[[], None]) -> None:
        self.call_later(0, call)


@dataclass
class Stream:
    """A stream on a disk."""

    records: dict[int, bytes] = field(default_factory=dict)
    states: dict[int, bytes] = field(default_factory=dict)


class StreamDouble:
    """A `StreamLog` over it."""

    def __init__(self, number: int, stream: Stream) -> None:
        self._number = number
        self._stream = stream

    def of(self, work: Work) -> LogWork:
        return work.of(self._number)

    def append(self, work: Work, records: Records) -> None:
        self.of(work).appends.append(records)

    def truncate_from(self, work: Work, sequence: int) -> None:
        part = self.of(work)
        assert not part.appends
        part.truncate_from = sequence

    def keep_from(self, work: Work, sequence: int) -> None:
        self.of(work).keep_from = sequence

    def read(self, from_seq: int, limit: int = 4096, bytes_max: int = 4 << 20) -> list[bytes]:
        found: list[bytes] = []
        for sequence in sorted(number for number in self._stream.records if number >= from_seq)[:limit]:
            value = self._stream.records[sequence]
            bytes_max -= len(value)
            if bytes_max < 0 and found:
                break
            found.append(value)
        return found


class Disk:
    """What survives a node, and the group commit in front of it."""

    def __init__(self, world: World, numbers: dict[str, int]) -> None:
        self._world = world
        self._numbers = numbers
        self.streams: dict[str, Stream] = {}
        self.latency_ns = (MS // 2, 2 * MS)
        self.failing: StoreError | None = None
        self.works: list[Work] = []
        self._jobs: list[Job] = []
        self._flying: Work | None = None
        self.clock: NodeClock | None = None

    def stream(self, group: str) -> Stream:
        return self.streams.setdefault(group, Stream())

    def storage(self, group: str) -> Storage:
        stream = self.stream(group)
        number = self._numbers.setdefault(group, len(self._numbers) + 1)
        return Storage(StreamDouble(number, stream), dict(stream.states))

    def at_rest(self, job: Job) -> None:
        self._jobs.append(job)
        assert self.clock is not None
        if self._flying is None:
            self.clock.call_soon(self._run)

    def _run(self) -> None:
        if self._flying is not None or not self._jobs:
            return
        jobs, self._jobs = self._jobs, []
        work = Work()
        after = [call for job in jobs if (call := job(work)) is not None]
        self._flying = work
        assert self.clock is not None

        def land() -> None:
            self._flying = None
            outcome = Outcome(work, self.failing)
            if outcome.error is None:
                self._apply(work)
            for call in after:
                call(outcome)
            self._run()

        self.clock.call_later(self._world.rng.randint(*self.latency_ns), land)

    def _apply(self, work: Work) -> None:
        names = {number: name for name, number in self._numbers.items()}
        self.works.append(work)
        for number, part in work.logs.items():
            stream = self.stream(names[number])
            records = stream.records
            if part.truncate_from:
                for sequence in [s for s in records if s >= part.truncate_from]:
                    del records[sequence]
            for appended in part.appends:
                records.update((int.from_bytes(name, "big"), value) for name, value in appended)
            for sequence in [s for s in records if s < part.keep_from]:
                del records[sequence]
            stream.states.update(part.consumer_states)

    def crash(self, *, lucky: bool | None = None) -> None:
        """What was under way is there, or not."""
        work, self._flying, self._jobs = self._flying, None, []
        lucky = self._world.rng.random() < 0.5 if lucky is None else lucky
        if work is not None and lucky:
            self._apply(work)


class Machine:
    """Keeps what it is given; its own durable state lags behind."""

    def __init__(self, node: Node, durable: list[tuple[int, int, bytes]], applied: int) -> None:
        self.node = node
        self.group: Group | None = None
        self.entries = list(durable)
        self.applied = applied
        self.roles: list[tuple[bool, NodeId | None, int]] = []
        self.offers = 0
        self.installs = True

    def committed(self, index: int, term: int, command: bytes) -> None:
        assert index > self.applied
        self.applied = index
        self.entries.append((index, term, command))

    def role_changed(self) -> None:
        assert self.group is not None
        self.roles.append((self.group.leading, self.group.leader, self.group.term))

    def behind(self, leader: NodeId) -> None:
        self.offers += 1
        if self.installs:
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

    def send(self, to: NodeId, data: bytes) -> None:
        self.cluster.carry(self.node, to, data)

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
        self.options = options or Options()
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

    def bootstrap(self, name: str = "g", nodes: Iterable[NodeId] | None = None) -> None:
        voters = list(nodes or self.nodes)
        for node in voters:
            self.nodes[node].open(name).bootstrap(voters)

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
