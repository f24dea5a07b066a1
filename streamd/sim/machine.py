"""One machine of a world: a disk, a wall clock, and the processes that live on it one after another.

Guarantee:  a process that crashed does nothing any more; the next one finds what the disk has kept. A store that is found
            damaged is thrown away, as its operator would, and the machine comes back as a new incarnation.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

from streamd.errors import StoreError
from streamd.raft.errors import JournalDamaged
from streamd.sim.clock import Life, NodeClock
from streamd.sim.disk import Disk
from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamd.raft.net import NodeId
    from streamd.sim.disk import SimWriter
    from streamd.sim.network import SimNet
    from streamd.sim.world import World
    from streamd.store import Environment


class Process(Protocol):
    """What runs on a machine: made by the world's `boot`, with everything it may use as arguments."""

    def start(self) -> None:
        """Go on with what the store holds. Errors: StoreError, if that is damaged."""


class Boot(Protocol):
    """Makes a process out of clock, network, store and randomness: a node knows no others."""

    def __call__(
        self,
        machine: Machine,
        *,
        clock: NodeClock,
        net: SimNet,
        environment: Environment,
        writer: SimWriter,
        rng: random.Random,
    ) -> Process:
        """A process that has not begun yet."""


class Machine:
    """A place where a node runs, or lies dead."""

    def __init__(self, world: World, name: str, directory: Path, boot: Boot) -> None:
        self.name = name
        self.disk = Disk(directory, world.rng, world.counts)
        self.incarnation = 1
        self.lives = 0
        self.offset_ns = 0
        self.process: Process | None = None
        self.clock: NodeClock | None = None
        self.life = Life()
        self.replaced: list[NodeId] = []  # incarnations whose store is gone
        self.told: Callable[[Machine], None] = lambda machine: None  # hears that a store was thrown away
        self._world = world
        self._boot = boot

    @property
    def node(self) -> NodeId:
        """The id of the incarnation that lives here."""
        return f"{self.name}#{self.incarnation}"

    @property
    def alive(self) -> bool:
        """Whether a process runs, be it paused."""
        return self.process is not None

    def start(self) -> None:
        """A process begins, if none runs."""
        if self.process is not None:
            return
        try:
            self._start()
        except (StoreError, JournalDamaged) as error:
            self.damaged(error)
            self._start()

    def _start(self) -> None:
        world = self._world
        self.lives += 1
        self.life = Life()
        clock = self.clock = NodeClock(world.time, self.life, self.offset_ns)
        environment, writer = self.disk.start(clock)
        net = world.network.join(self.node, clock, self.life)
        rng = random.Random(f"{world.seed}/{self.name}/{self.lives}")
        process = self._boot(self, clock=clock, net=net, environment=environment, writer=writer, rng=rng)
        self.process = process
        process.start()

    def stop(self, *, flip: bool = False) -> None:
        """The process is killed, or the power is cut."""
        if self.life.over:
            return
        self.life.over = True
        self.process = None
        if self.node in self._world.network.nets:
            self._world.network.leave(self.node)
        self.disk.stop(flip=flip)

    def damaged(self, error: Exception) -> None:
        """The store says that it isn't what was written: a new incarnation takes the place of this one.

        Errors: Violation if nothing was flipped.
        """
        if not self.disk.flipped:
            raise Violation(f"{self.node}: the store was not touched, and is damaged: {error}") from error
        self._world.counts["damaged stores found"] += 1
        self.stop()
        self.disk.wipe()
        self.replaced.append(self.node)
        self.incarnation += 1
        self.told(self)

    def pause(self, until_ns: int) -> None:
        """The process stands still for a while, as under SIGSTOP."""
        self.life.paused_until_ns = max(self.life.paused_until_ns, until_ns)

    def resume(self) -> None:
        """It goes on, as under SIGCONT."""
        self._world.time.resume(self.life)

    def jump(self, offset_ns: int) -> None:
        """Somebody sets the wall clock."""
        self.offset_ns = offset_ns
        if self.clock is not None:
            self.clock.offset_ns = offset_ns
