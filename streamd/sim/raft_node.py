"""A node that has nothing but groups, each with a checksum for a machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from streamd.raft.config import Config
from streamd.raft.storage import Storage, define
from streamd.sim.chain import APPLIED, Chain
from streamd.sim.rest import Rest
from streamd.sim.watched import WatchedHost
from streamd.store import StreamLog, TailCache, Work, recover

if TYPE_CHECKING:
    import random

    from streamd.raft.errors import JournalDamaged
    from streamd.sim.clock import NodeClock
    from streamd.sim.disk import SimWriter
    from streamd.sim.machine import Machine
    from streamd.sim.network import SimNet
    from streamd.sim.raft_world import RaftWorld
    from streamd.store import Environment, StoredStream

_log: Final = logging.getLogger(__name__)


class RaftNode:
    """One life of a node."""

    def __init__(
        self,
        world: RaftWorld,
        machine: Machine,
        *,
        clock: NodeClock,
        net: SimNet,
        environment: Environment,
        writer: SimWriter,
        rng: random.Random,
        eager: bool = False,
    ) -> None:
        """`eager`: proposals are acked at once, a planted bug."""
        self.world = world
        self.machine = machine
        self.eager = eager
        self.node = net.node
        self.net = net
        self.clock = clock
        self.rest = Rest(writer, clock)
        self.at_rest = self.rest.at_rest
        self.chains: list[Chain] = []
        self._environment = environment
        self._writer = writer
        self._host = WatchedHost(
            net,
            clock,
            rng,
            self.at_rest,
            options=world.options,
            log=_log,
            ledger=world.ledgers.__getitem__,
            failed=self._failed,
        )

    def start(self) -> None:
        """Open all groups. Errors: StoreError."""
        found = {stored.stream: stored for stored in recover(self._environment)}
        for stored in found.values():
            if stored.damage is not None:
                raise stored.damage
        for place, name in enumerate(self.world.groups):
            self._open(place + 1, name, found.get(place + 1))

    def _open(self, stream: int, name: str, stored: StoredStream | None) -> None:
        world = self.world
        log = StreamLog(self._environment, TailCache(), stream)
        state = stored.consumers.get(APPLIED) if stored is not None else None
        chain = Chain(self, name, stream, world.ledgers[name], state.state if state is not None else None)
        if stored is None:
            work = Work()
            define(work, stream, name)
            self._writer.submit(work, lambda outcome: None)
            self._writer.settle()
            storage = Storage(log)
        else:
            storage = Storage.found(log, stored)
        chain.group = self._host.open(name, storage, chain, chain.index)
        self.chains.append(chain)
        if stored is None and self.node in world.founders:
            chain.group.bootstrap(world.founders)
        self.net.serve(f"state.{name}", lambda asker, payload, answer: answer(self._state(chain)))

    def _state(self, chain: Chain) -> bytes:
        return chain.state() + chain.group.at(chain.index)[1].encode()

    def installed(self, chain: Chain, config: bytes) -> None:
        """A state was fetched and is durable."""
        chain.group.installed(chain.index, chain.term, Config.decode(config))

    def _failed(self, error: JournalDamaged) -> None:
        """A group can't go on: what is on this disk is not what was written."""
        self.clock.call_soon(lambda: self.machine.damaged(error))
