"""What every world has: a seed, a time, a network, machines, and counts of what happened.

Guarantee:  all randomness comes from the seed, nothing depends on Python's hashes or on how fast the process is.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from streamd.sim.clock import MS, SECOND, Time
from streamd.sim.faults import Faults
from streamd.sim.machine import Machine
from streamd.sim.network import CHAOS, ORDERED, Network
from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from types import TracebackType

    from streamd.raft.config import Config
    from streamd.raft.group import Group
    from streamd.sim.machine import Boot

#: Load and faults last so long, then everything is healed, and then the nodes must agree.
LOAD_NS: Final = 10 * SECOND
_RAM: Final = Path("/dev/shm")


class World:
    """One history. Use as a context manager: it has a directory."""

    #: What comes before load and faults, and after.
    START_NS = SECOND
    HEALED_NS = 4 * SECOND

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.time = Time()
        self.counts: Counter[str] = Counter()
        self.network = Network(self.time, self.rng, ORDERED if seed % 4 == 0 else CHAOS, self.counts)
        self.machines: list[Machine] = []
        self.faults = Faults(self)
        self._directory = Path(tempfile.mkdtemp(prefix="streamd-sim-", dir=_RAM if _RAM.is_dir() else None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for machine in self.machines:
            machine.disk.written = lambda works: None
            machine.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def add(self, name: str, boot: Boot) -> Machine:
        """A machine whose clock is a little off."""
        machine = Machine(self, name, self._directory / name, boot)
        machine.offset_ns = self.rng.randint(-500, 500) * MS
        self.machines.append(machine)
        return machine

    def run(self) -> Counter[str]:
        """Live through it; what happened. Errors: Violation, with seed and time."""
        try:
            for machine in self.machines:
                machine.start()
            self.begin()
            self.time.run(self.START_NS)
            ends_ns = self.START_NS + LOAD_NS
            self.load(ends_ns)
            self.faults.begin(ends_ns)
            self.time.run(ends_ns)
            self.faults.end()
            self.time.run(ends_ns + self.HEALED_NS)
            self.healed()
        except Exception as error:
            # Whatever leaves a node is a bug of it.
            text = str(error) if isinstance(error, Violation) else _told(error)
            raise Violation(f"seed {self.seed} at {self.time.now_ns / SECOND:.3f} s: {text}") from error
        return self.counts

    # what a world is about

    def begin(self) -> None:
        """Prepare, while nothing goes wrong yet."""

    def leaders(self) -> list[Machine]:
        """The machines that faults should prefer."""
        raise NotImplementedError

    def may_flip(self) -> bool:
        """Whether a store more can be lost without losing what was acked."""
        raise NotImplementedError

    def load(self, until_ns: int) -> None:
        """Begin to work on the nodes."""
        raise NotImplementedError

    def healed(self) -> None:
        """Nothing has gone wrong for a while. Errors: Violation if the nodes don't agree by now."""
        raise NotImplementedError


def _told(error: Exception) -> str:
    """An exception with the place it came from."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno} {place.name})"


def configs(group: Group) -> tuple[Config, Config]:
    """What a leader goes by, and what is committed: if it is lost, the others may know of no more than that."""
    return group.config, group.at(group.commit_index)[1]
