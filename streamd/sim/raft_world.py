"""Groups of Raft alone: three nodes for odd seeds, five for even ones, and spare machines, under load and faults.

Guarantee:  after the faults every group has a leader, takes proposals, and all members agree soon.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from streamd.raft.errors import ChangeRefused, NotLeader, Overloaded
from streamd.raft.options import Fixes, Options
from streamd.sim.clock import MS, SECOND
from streamd.sim.faults import FAULTS
from streamd.sim.ledger import Ledger
from streamd.sim.network import CHAOS
from streamd.sim.raft_node import RaftNode
from streamd.sim.violation import Violation
from streamd.sim.world import World, configs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.raft.group import Group
    from streamd.raft.net import NodeId
    from streamd.sim.chain import Chain
    from streamd.sim.machine import Machine
    from streamd.store import Work

#: Means of exponential distributions.
PROPOSE_MS: Final = 5
CHANGE_MS: Final = 400
TRANSFER_MS: Final = 1_200
BIG_BYTES: Final = 20_000
#: Small bounds, so that they are met: logs are compacted, windows fill, reads come from the store.
SMALL: Final = Options(
    batch_bytes=4 << 10,
    window_bytes=16 << 10,
    frame_bytes=8 << 10,
    proposed_bytes_max=48 << 10,
    apply_bytes=8 << 10,
    recent_bytes=4 << 10,
    tail_bytes=16 << 10,
)
#: Half of the seeds: the shortest times that hold on these networks, so that more elections happen.
QUICK: Final = replace(
    SMALL, heartbeat_ns=50 * MS, election_min_ns=151 * MS, election_max_ns=300 * MS, quorum_timeout_ns=300 * MS
)

#: What has to happen somewhere in a run of seeds, or the run proves nothing.
MUST_HAPPEN: Final = (
    *FAULTS,
    "acked",
    "learners added",
    "members removed",
    "states installed",
    "transfers done",
    "voters promoted",
)


class RaftWorld(World):
    """One history of some groups."""

    def __init__(
        self,
        seed: int,
        *,
        fixes: Fixes | None = None,
        eager: bool = False,
        duplicates: float | None = None,
        change_ms: int = CHANGE_MS,
    ) -> None:
        """`fixes`, `eager` (proposals are acked at once): to plant bugs. `duplicates`: so many frames come twice. `change_ms`:
        mean time between two steps of the operator."""
        super().__init__(seed)
        if duplicates is not None:
            self.network.weather = replace(CHAOS, duplicates=duplicates)
        times = QUICK if seed % 4 in (0, 1) else SMALL
        self.options = replace(times, fixes=fixes or Fixes())
        self._change_ms = change_ms
        self.size = 3 if seed % 2 else 5
        self.groups = ["A", "B"] if seed % 3 == 0 else ["A"]
        self.ledgers = {name: Ledger(name, self.counts) for name in self.groups}
        for number in range(self.size + 1):
            machine = self.add(f"n{number}", partial(RaftNode, self, eager=eager))
            machine.disk.written = partial(self._written, machine)
            machine.told = self._later
        self.founders: tuple[NodeId, ...] = tuple(machine.node for machine in self.machines[: self.size])
        self._until_ns = 0
        self._number = 0
        self._acked: dict[str, list[tuple[int, int, int]]] = {name: [] for name in self.groups}
        self._streams = {place + 1: self.ledgers[name] for place, name in enumerate(self.groups)}

    # what the base asks for

    def leaders(self) -> list[Machine]:
        return [machine for machine in self.machines if any(chain.leading for chain in self._chains(machine))]

    def may_flip(self) -> bool:
        """Not while the place of an incarnation that has lost its store is still to be filled."""
        return not any(machine.disk.flipped for machine in self.machines) and all(
            self._whole(name) for name in self.groups
        )

    def load(self, until_ns: int) -> None:
        self._until_ns = until_ns
        for mean_ms, what in (
            (PROPOSE_MS, self._propose),
            (self._change_ms, self._change),
            (TRANSFER_MS, self._transfer),
        ):
            self._again(mean_ms, what)

    def healed(self) -> None:
        for place, name in enumerate(self.groups):
            chains = [self._chains(machine)[place] for machine in self.machines if machine.alive]
            leading = [chain for chain in chains if chain.leading]
            if len(leading) != 1:
                raise Violation(f"group {name} never converged: {len(leading)} leaders, {self._picture(chains)}")
            config = leading[0].group.config
            if not self._whole(name):
                raise Violation(f"group {name} never converged: its members are {config}")
            for chain in chains:
                if chain._node.node in (*config.voters, *config.learners) and chain.index != leading[0].index:
                    raise Violation(f"group {name} never converged: {self._picture(chains)}")
            if leading[0].index < max(self.ledgers[name].committed):
                raise Violation(f"group {name}: what was committed is not everywhere: {self._picture(chains)}")
            for index, term, crc in self._acked[name]:
                if self.ledgers[name].committed.get(index) != (term, crc):
                    raise Violation(f"group {name}: what was acked at {index} in term {term} is lost")
            if not self.counts[f"acked after healing, {name}"]:
                raise Violation(f"group {name} takes no proposals: {self._picture(chains)}")

    # load

    def _again(self, mean_ms: int, what: Callable[[], None]) -> None:
        """Do something now and then, and not in a last second of rest. While everything heals there are fewer proposals, and
        places are filled sooner."""
        wait_ns = self.rng.expovariate(1 / mean_ms) * MS
        # What is left of a wait when healing begins passes as a wait of then does: who sleeps until the end fills no place.
        before_ns = min(wait_ns, max(0, self._until_ns - self.time.now_ns))
        delay_ns = int(before_ns + (wait_ns - before_ns) * (4.0 if what == self._propose else 0.25))
        if self.time.now_ns + delay_ns < self._until_ns + self.HEALED_NS - SECOND:
            self.time.after(delay_ns, partial(self._once_more, mean_ms, what))

    def _once_more(self, mean_ms: int, what: Callable[[], None]) -> None:
        what()
        self._again(mean_ms, what)

    @property
    def _healing(self) -> bool:
        return self.time.now_ns >= self._until_ns

    def _propose(self) -> None:
        """Some entries, at whoever says it leads."""
        name = self.rng.choice(self.groups)
        chain = self._anybody(name)
        for _ in range(self.rng.choice((1, 1, 1, 2, 8))):
            self._number += 1
            size = self.rng.randrange(BIG_BYTES) if self.rng.random() < 0.02 else self.rng.randrange(64)
            if chain is None:
                return
            command = b"%d %b" % (self._number, bytes(size))
            try:
                chain.propose(command, partial(self._heard, name, self.time.now_ns, command))
                self.counts["proposed"] += 1
            except NotLeader as error:
                self.counts["proposals refused"] += 1
                chain = self._of(name, error.leader) if error.leader is not None else None
            except Overloaded:
                self.counts["proposals refused, too many"] += 1
                return

    def _heard(self, name: str, since_ns: int, command: bytes, place: tuple[int, int] | None) -> None:
        """A publisher hears that its entry is at (index, term), or that nobody knows."""
        if place is None:
            self.counts["fate unknown"] += 1
            return
        self.counts["acked"] += 1
        self._acked[name].append((*place, zlib.crc32(command)))
        if since_ns > self._until_ns + SECOND:
            self.counts[f"acked after healing, {name}"] += 1

    def _transfer(self) -> None:
        if self._healing:
            return
        for name in self.groups:
            chain = self._leader(name)
            if chain is not None:
                others = [node for node in chain.group.config.voters if node != chain.group.node]
                if others:
                    self.counts["transfers"] += 1
                    chain.group.transfer(self.rng.choice([None, *others]), self._transferred)

    def _transferred(self, done: bool) -> None:
        self.counts["transfers done" if done else "transfers given up"] += 1

    # members

    def _change(self) -> None:
        """One step of what an operator does: replace who has lost its store, move a place to another machine."""
        for name in self.groups:
            chain = self._leader(name)
            if chain is None:
                continue
            try:
                self._step(chain.group)
            except (ChangeRefused, NotLeader):
                self.counts["changes refused"] += 1

    def _step(self, group: Group) -> None:
        config, rng = group.config, self.rng
        members = (*config.voters, *config.learners)
        gone = [node for node in members if node not in self._living()]
        if gone:
            self._remove(group, gone[0])
        elif config.learners and len(config.voters) < self.size + (not self._healing):
            group.promote(rng.choice(config.learners))
            self.counts["voters promoted"] += 1
        elif len(config.voters) > self.size:
            self._remove(group, rng.choice(config.voters))
        elif config.learners:
            self._remove(group, rng.choice(config.learners))
        elif len(config.voters) < self.size or not self._healing:
            spare = [node for node in self._living() if node not in members]
            if spare:
                group.add_learner(rng.choice(spare))
                self.counts["learners added"] += 1

    def _remove(self, group: Group, node: NodeId) -> None:
        if node == group.node:
            group.transfer(None, self._transferred)
            return
        group.remove(node)
        self.counts["members removed"] += 1

    def _living(self) -> list[NodeId]:
        """Incarnations whose store is there, whether they run or not."""
        return [machine.node for machine in self.machines]

    def _whole(self, name: str) -> bool:
        """Whether a group has as many voters as it should, all with a store, and has committed that."""
        chain = self._leader(name)
        if chain is None:
            return False
        living = {*self._living()}
        return all(len(each.voters) >= self.size and living.issuperset(each.voters) for each in configs(chain.group))

    # looking

    def _later(self, machine: Machine) -> None:
        self.time.after(self.rng.randint(0, 500) * MS, machine.start)

    def _written(self, machine: Machine, works: Iterable[Work]) -> None:
        for work in works:
            for stream, part in work.logs.items():
                self._streams[stream].wrote(machine.node, part)

    def _chains(self, machine: Machine) -> list[Chain]:
        process = machine.process
        return process.chains if isinstance(process, RaftNode) else []

    def _running(self, name: str) -> list[Chain]:
        place = self.groups.index(name)
        return [chains[place] for machine in self.machines if len(chains := self._chains(machine)) > place]

    def _anybody(self, name: str) -> Chain | None:
        running = self._running(name)
        return self.rng.choice(running) if running else None

    def _leader(self, name: str) -> Chain | None:
        """The one of the highest term, if several believe it."""
        leading = [chain for chain in self._running(name) if chain.leading]
        return max(leading, key=lambda chain: chain.group.term) if leading else None

    def _of(self, name: str, node: NodeId) -> Chain | None:
        return next((chain for chain in self._running(name) if chain.group.node == node), None)

    def _picture(self, chains: list[Chain]) -> str:
        return "; ".join(
            f"{chain.group.node} term {chain.group.term} at {chain.index} leader {chain.group.leader}"
            for chain in chains
        )
