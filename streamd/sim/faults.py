"""When which fault comes. Every fault ends by itself or with `end`.

Shapes:  intervals are means of exponential distributions, in milliseconds; durations are uniform.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from streamd.sim.clock import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.sim.machine import Machine
    from streamd.sim.world import World

CRASH_MS: Final = 700
AWAY_MS: Final = (10, 700)
PARTITION_MS: Final = 900
CUT_MS: Final = (50, 900)
PAUSE_MS: Final = 2_500
PAUSED_MS: Final = (50, 900)
FULL_MS: Final = 3_500
FULL_FOR_MS: Final = (100, 1_500)
JUMP_MS: Final = 2_000
JUMP_SECONDS: Final = 30  # less than half of a duplicate window: within it ids are promised to be known
#: Of crashes: those that hit a leader, those that hit everybody, those after which a bit has changed.
LEADER: Final = 0.5
ALL: Final = 0.1
FLIP: Final = 0.1
#: And those that wait for a commit to be under way, for so long at most.
STRIKE: Final = 0.6
STRIKE_MS: Final = 200

#: What has to happen somewhere in a run of seeds of any world.
FAULTS: Final = (
    "clock jumps",
    "commits refused, disk full",
    "compactions",
    "configurations",
    "crashes",
    "damaged stores found",
    "elections",
    "entries torn",
    "full disks",
    "logs begun anew",
    "partitions, one way",
    "partitions, pair",
    "partitions, split",
    "pauses",
    "stores flipped",
    "truncations",
    "works lost",
)


class Faults:
    """The misfortunes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._until_ns = 0

    def begin(self, until_ns: int) -> None:
        """From now on, until then."""
        self._until_ns = until_ns
        for mean_ms, fault in (
            (CRASH_MS, self._crash),
            (PARTITION_MS, self._partition),
            (PAUSE_MS, self._pause),
            (FULL_MS, self._full),
            (JUMP_MS, self._jump),
        ):
            self._plan(mean_ms, fault)

    def end(self) -> None:
        """Everything is as it should be."""
        world = self._world
        world.network.weather = replace(world.network.weather, loss=0.0)
        world.network.heal()
        for machine in world.machines:
            machine.disk.full = False
            machine.resume()
            machine.start()

    def _plan(self, mean_ms: int, fault: Callable[[], None]) -> None:
        at_ns = self._world.time.now_ns + int(self._rng.expovariate(1 / mean_ms) * MS)
        if at_ns < self._until_ns:
            self._world.time.at(at_ns, partial(self._happen, mean_ms, fault))

    def _happen(self, mean_ms: int, fault: Callable[[], None]) -> None:
        fault()
        self._plan(mean_ms, fault)

    def _alive(self) -> list[Machine]:
        return [machine for machine in self._world.machines if machine.alive]

    def _crash(self) -> None:
        rng, world = self._rng, self._world
        draw = rng.random()
        victims = self._alive()
        if not victims:
            return
        if draw < LEADER:
            victims = [rng.choice([machine for machine in world.leaders() if machine.alive] or victims)]
        elif draw < 1 - ALL:
            victims = [rng.choice(victims)]
        for machine in victims:
            flip = rng.random() < FLIP and world.may_flip()
            if rng.random() < STRIKE:
                strike = machine.disk.strike = partial(self._strike, machine, machine.lives, flip)
                world.time.after(STRIKE_MS * MS, strike)
            else:
                self._die(machine, flip=flip)

    def _strike(self, machine: Machine, life: int, flip: bool) -> None:
        """Die in the middle of a commit, or for want of one."""
        if machine.alive and machine.lives == life:
            self._die(machine, flip=flip and self._world.may_flip())

    def _die(self, machine: Machine, *, flip: bool) -> None:
        """It dies, and comes back after a while."""
        self._world.counts["crashes"] += 1
        machine.stop(flip=flip)
        self._world.time.after(self._rng.randint(*AWAY_MS) * MS, machine.start)

    def _partition(self) -> None:
        rng, world = self._rng, self._world
        names = [machine.name for machine in world.machines]
        rng.shuffle(names)
        kind = rng.choice(["split", "split", "pair", "one way"])
        if kind == "split":
            size = rng.randint(1, len(names) // 2)
            few, many = names[:size], names[size:]
            ways = [way for a in few for b in many for way in ((a, b), (b, a))]
        elif kind == "pair":
            ways = [(names[0], names[1]), (names[1], names[0])]
        else:
            ways = [(names[0], other) for other in names[1 : rng.randint(2, len(names))]]
            if rng.random() < 0.5:
                ways = [(b, a) for a, b in ways]
        world.counts[f"partitions, {kind}"] += 1
        world.network.cut(ways, breaks=rng.random() < 0.5)
        world.time.after(rng.randint(*CUT_MS) * MS, world.network.heal)

    def _pause(self) -> None:
        alive = self._alive()
        if alive:
            self._world.counts["pauses"] += 1
            self._rng.choice(alive).pause(self._world.time.now_ns + self._rng.randint(*PAUSED_MS) * MS)

    def _full(self) -> None:
        machine = self._rng.choice(self._world.machines)
        self._world.counts["full disks"] += 1
        machine.disk.full = True
        self._world.time.after(self._rng.randint(*FULL_FOR_MS) * MS, lambda: setattr(machine.disk, "full", False))

    def _jump(self) -> None:
        self._world.counts["clock jumps"] += 1
        self._rng.choice(self._world.machines).jump(self._rng.randint(-JUMP_SECONDS, JUMP_SECONDS) * SECOND)
