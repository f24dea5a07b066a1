"""One line of the table: what is measured, in which unit, and what streamd has to reach. A target
is either a ratio to the peer or an absolute ceiling in the row's own unit."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.rig import Rig
from benchmarks.server import Software

Sampler = Callable[[Rig, Software], float]


class Unit(enum.Enum):
    """Unit of a figure; the value is how it is printed."""

    RATE = "msg/s"
    PAIRS = "pairs/s"
    MICROSECONDS = "µs"
    SECONDS = "s"
    KIB = "KiB"
    MIB = "MiB"
    CORES = "cores"


class Rival(enum.Enum):
    """Which server a row measures streamd beside."""

    NATS = "nats-server"
    STREAMING = "nats-streaming-server"


class Goal(enum.Enum):
    RATIO_AT_LEAST = ">="
    RATIO_AT_MOST = "<="
    VALUE_AT_MOST = "value <="


@dataclass(frozen=True)
class Row:
    group: str
    name: str
    unit: Unit
    goal: Goal
    target: float
    sample: Sampler
    #: The same bytes through a process that only moves them, where that makes sense.
    limit: Callable[[Rig], float] | None = None
    #: Costs minutes: fewer samples are enough.
    slow: bool = False
    #: A sample is itself made of many, and the same for all rows that show them.
    once: bool = False
    rival: Rival = Rival.NATS


@dataclass(frozen=True)
class Result:
    row: Row
    streamd: tuple[float, ...]
    peer: tuple[float, ...]
    limit: tuple[float, ...]
    failure: str = ""

    @property
    def ratio(self) -> float | None:
        """Median of streamd over median of the peer."""
        if not self.streamd or not self.peer:
            return None
        return median(self.streamd) / median(self.peer)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where it can't be said."""
        if not self.streamd or (self.row.goal is not Goal.VALUE_AT_MOST and self.ratio is None):
            return None
        match self.row.goal:
            case Goal.VALUE_AT_MOST:
                return median(self.streamd) <= self.row.target
            case Goal.RATIO_AT_LEAST:
                return (self.ratio or 0) >= self.row.target
            case Goal.RATIO_AT_MOST:
                return (self.ratio or 0) <= self.row.target


def median(values: tuple[float, ...]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
