"""Whole servers, three of them for odd seeds and five for even ones: streams of three replicas, with publishers, a consumer
and an operator, under the same faults as groups alone.

Guarantee:  what clients were promised holds, and after the faults every replica has the same.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from streamd._engine import CorruptRecord, record_decode
from streamd.raft.options import Fixes
from streamd.sim.clients import Consumer, Operator, Publisher
from streamd.sim.clock import SECOND
from streamd.sim.faults import FAULTS, JUMP_SECONDS
from streamd.sim.full_node import FullNode
from streamd.sim.history import Copies, History
from streamd.sim.ledger import Ledger
from streamd.sim.raft_world import QUICK, SMALL
from streamd.sim.violation import Violation
from streamd.sim.world import LOAD_NS, World, configs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd._engine import Record
    from streamd.sim.machine import Machine
    from streamd.store import LogWork, Work

WINDOWS: Final = (1, 1, 4, 8)
#: So little is kept of a log that who was away has to fetch the state.
TAIL_BYTES: Final = 3 << 10
#: What a leader with a clock ahead has delivered comes again when the others' clocks are there too.
CLOCKS_NS: Final = 2 * JUMP_SECONDS * SECOND
#: A damaged replica that has been found is whole again after this.
HEALED_NS: Final = 10 * SECOND
#: What has to happen somewhere in a run of seeds, or the run proves nothing.
MUST_HAPPEN: Final = (
    *FAULTS,
    "acked",
    "acked, duplicate",
    "acks confirmed",
    "acks missing",
    "delivered",
    "leaders moved",
    "meta leaders moved",
    "publishes refused",
    "requests answered",
)
_EVERYTHING: Final = 1 << 40


class FullWorld(World):
    """One history of a cluster."""

    START_NS = 4 * SECOND
    HEALED_NS = 10 * SECOND

    def __init__(self, seed: int, *, fixes: Fixes | None = None) -> None:
        """`fixes`: to plant bugs."""
        super().__init__(seed)
        times = QUICK if seed % 4 in (0, 1) else SMALL
        self.options = replace(times, fixes=fixes or Fixes(), tail_bytes=TAIL_BYTES)
        self.history = History()
        self.works_until_ns = self.START_NS + LOAD_NS + 2 * SECOND
        self._ledgers: dict[str, Ledger] = {}
        self._copies: dict[int, Copies] = {}
        self._owners: dict[tuple[str, int], Ledger | Copies | None] = {}  # of streams in stores
        self._operator = Operator(self, "operator")
        self._ready = False
        for number in range(3 if seed % 2 else 5):
            machine = self.add(f"n{number}", partial(FullNode, self))
            machine.disk.written = partial(self._written, machine)
        self.names = frozenset(machine.name for machine in self.machines)

    def nodes(self) -> list[FullNode]:
        """Those that run."""
        return [machine.process for machine in self.machines if isinstance(machine.process, FullNode)]

    def ledger(self, group: str) -> Ledger:
        """That of a group."""
        return self._ledgers.setdefault(group, Ledger(group, self.counts))

    # what the base asks for

    def begin(self) -> None:
        self._operator.start()

    def ready(self) -> None:
        """The stream and its consumer are there."""
        self._ready = True
        for number, window in enumerate(WINDOWS):
            Publisher(self, f"p{number}", window).start()
        Consumer(self, "consumer").start()

    def leaders(self) -> list[Machine]:
        return [
            node.machine
            for node in self.nodes()
            if node.replication.meta.leading or any(each.leading for each in node.replication.replicas.values())
        ]

    def may_flip(self) -> bool:
        return not any(machine.disk.flipped for machine in self.machines) and self._wrong_members() is None

    def load(self, until_ns: int) -> None:
        if not self._ready:
            raise Violation("the cluster never began")

    def healed(self) -> None:
        wrong = self._wrong_members()
        if wrong is not None:
            raise Violation(f"never converged: {wrong}")
        if not self.counts["acked"]:
            raise Violation("nothing was ever acked")
        until_ns = self.time.now_ns + CLOCKS_NS
        while self.time.now_ns < until_ns and not all(self._consumed(node) for node in self.nodes()):
            self.time.run(self.time.now_ns + 2 * SECOND)
        holders = 0
        for node in self.nodes():
            stream = node.jetstream.streams.get("ORDERS")
            if stream is None:
                continue
            holders += 1
            if stream.offline is not None and node.machine.disk.flipped:
                # What was flipped long ago may have been read just now.
                self.time.run(self.time.now_ns + HEALED_NS)
                stream = node.jetstream.streams["ORDERS"]
            if stream.offline is not None:
                raise Violation(f"{node.net.node}: the stream is still offline: {stream.offline}")
            self.history.look(node.net.node, self._records(node))
            if not self._consumed(node):
                raise Violation(f"{node.net.node}: the consumer's floor stays behind {stream.state.last_seq}")
        if holders != 3:
            raise Violation(f"{holders} servers have the stream of three replicas")
        lasts = {
            node.net.node: node.jetstream.streams["ORDERS"].state.last_seq
            for node in self.nodes()
            if "ORDERS" in node.jetstream.streams
        }
        if len(set(lasts.values())) != 1:
            raise Violation(f"never converged: replicas end at {lasts}")

    def _records(self, node: FullNode) -> list[Record]:
        """What a server's replica holds. Errors: Violation if it is damaged, and isn't healed soon once that is noticed."""
        for _ in range(2):
            stream = node.jetstream.streams["ORDERS"]
            try:
                return [record_decode(value) for value in stream.log.read(1, _EVERYTHING, _EVERYTHING)]
            except CorruptRecord as error:
                if not node.machine.disk.flipped:
                    raise
                self.counts["damaged records found"] += 1
                stream.damaged(error)
                self.time.run(self.time.now_ns + HEALED_NS)
        raise Violation(f"{node.net.node}: a damaged replica isn't healed")

    def _consumed(self, node: FullNode) -> bool:
        """Whether the consumer has acked everything, as far as this server knows."""
        stream = node.jetstream.streams.get("ORDERS")
        consumer = None if stream is None else stream.consumers.get("C")
        if stream is None or consumer is None:
            return True
        return consumer.state.ack_floor_stream_seq == stream.state.last_seq

    def _wrong_members(self) -> str | None:
        """Why the cluster isn't whole, None if it is."""
        metas = [node.replication for node in self.nodes() if node.replication.meta.leading]
        if len(metas) != 1:
            return f"{len(metas)} servers lead the meta group"
        living = {machine.name: machine.node for machine in self.machines}
        state = metas[0].meta.state
        if {name: node.node for name, node in state.nodes.items()} != living:
            return f"the meta group knows {sorted(node.node for node in state.nodes.values())}"
        for config in configs(metas[0].meta.group):
            if {*config.voters} != {*living.values()}:
                return f"the meta group's voters are {config.voters}"
        for plan in state.groups.values():
            leading = [
                replica
                for node in self.nodes()
                if (replica := node.replication.replicas.get(plan.name)) is not None and replica.leading
            ]
            if len(leading) != 1:
                return f"{len(leading)} servers lead group {plan.name}"
            for config in configs(leading[0].group):
                if {*config.voters} != {living[name] for name in plan.names}:
                    return f"the voters of group {plan.name} are {config.voters}"
        return None

    # disks

    def _written(self, machine: Machine, works: Iterable[Work]) -> None:
        for work in works:
            for stream, part in work.logs.items():
                owner = self._owner(machine.node, stream, part)
                if owner is not None:
                    owner.wrote(machine.node, part)

    def _owner(self, node: str, stream: int, part: LogWork) -> Ledger | Copies | None:
        """Whose log that is, as its definition says."""
        if part.definition is not None:
            fields = json.loads(part.definition)
            found: Ledger | Copies | None = None
            if fields.get("service") == "raft":
                found = self.ledger(fields["name"])
            elif fields.get("group"):
                found = self._copies.setdefault(fields["uid"], Copies(fields["name"]))
            self._owners[node, stream] = found
        return self._owners.get((node, stream))
