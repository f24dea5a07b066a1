"""A server without sockets: engine, store, groups and streams, as `server.py` puts them together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from streamd.errors import StoreError
from streamd.sim.routes import SimCore
from streamd.sim.served import watch
from streamd.sim.watched import WatchedHost
from streamd.state.limits import Limits
from streamd.store import Sync
from streamd.streams.jetstream import JetStream
from streamd.streams.replication.node import Replication
from streamd.streams.replication.replica import Replica

if TYPE_CHECKING:
    import random

    from streamd.raft.sides import Machine as GroupMachine
    from streamd.sim.clock import NodeClock
    from streamd.sim.disk import SimWriter
    from streamd.sim.full_world import FullWorld
    from streamd.sim.machine import Machine
    from streamd.sim.network import SimNet
    from streamd.store import Environment

_log: Final = logging.getLogger(__name__)
STORAGE_BYTES: Final = 1 << 30


class FullNode:
    """One life of a server."""

    def __init__(
        self,
        world: FullWorld,
        machine: Machine,
        *,
        clock: NodeClock,
        net: SimNet,
        environment: Environment,
        writer: SimWriter,
        rng: random.Random,
    ) -> None:
        self.world = world
        self.machine = machine
        self.clock = clock
        self.net = net
        self.core = SimCore(clock, net, rng)
        self.bus = self.core.bus
        self._environment = environment
        self._writer = writer
        self._rng = rng
        self.jetstream: JetStream
        self.replication: Replication

    def start(self) -> None:
        """Recover and take part. Errors: StoreError."""
        world, machine = self.world, self.machine
        self.jetstream = JetStream(
            machine.disk.directory,
            self.bus,
            self.clock,
            _log,
            server_name=machine.name,
            sync=Sync(),
            strict=False,
            limits=Limits(clustered=True),
            max_memory_bytes=STORAGE_BYTES,
            max_storage_bytes=STORAGE_BYTES,
            notify=None,
            store=(self._environment, self._writer),
        )
        if self.jetstream.identity not in ("", self.net.node):
            raise StoreError(f"the store is that of {self.jetstream.identity}")
        self.jetstream.start()
        services = self.jetstream.services
        host = WatchedHost(
            self.net,
            self.clock,
            self._rng,
            services.commits.join,
            settle=services.commits.settle,
            options=world.options,
            log=_log,
            ledger=world.ledger,
            failed=self._failed,
            opened=self._opened,
        )
        self.replication = Replication(
            self.jetstream,
            self.net,
            host,
            name=machine.name,
            cluster=lambda: "sim",
            tags=(),
            expected=lambda: world.names,
            echo=self.core.echo,
            streaming=False,
            failed=self._failed,
        )
        self.core.flush_soon()

    def _opened(self, machine: GroupMachine) -> None:
        if isinstance(machine, Replica):
            watch(machine, self.world.history, self.world.time)

    def _failed(self, error: Exception) -> None:
        self.clock.call_soon(lambda: self.machine.damaged(error))
