"""The contest: each row, streamd and the peer in turn, A/B/A/B. Guarantee: what fails in one row is
said in that row and doesn't end the others."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.row import Result, Rival, Row
from benchmarks.wire import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.rig import Rig
    from benchmarks.server import Software

SLOW_RUNS = 3


@dataclass
class Samples:
    values: list[float] = field(default_factory=list)
    failure: str = ""

    def take(self, sample: Callable[[], float]) -> None:
        if self.failure:
            return
        try:
            self.values.append(sample())
        except (BenchError, OSError) as error:
            self.failure = str(error) or type(error).__name__


def measure(rig: Rig, row: Row, streamd: Software | None, peer: Software, runs: int) -> Result:
    ours, theirs, limit = Samples(), Samples(), Samples()
    for _ in range(1 if row.once else min(runs, SLOW_RUNS) if row.slow else runs):
        if streamd:
            ours.take(partial(row.sample, rig, streamd))
        theirs.take(partial(row.sample, rig, peer))
        if row.limit:
            limit.take(partial(row.limit, rig))
    failures = [("streamd", ours.failure), ("peer", theirs.failure), ("limit", limit.failure)]
    failure = "; ".join(f"{who}: {what}" for who, what in failures if what)
    return Result(row, tuple(ours.values), tuple(theirs.values), tuple(limit.values), failure)


def contest(
    rig: Rig, rows: Sequence[Row], streamd: Software | None, peers: Mapping[Rival, Software], runs: int
) -> Iterator[Result]:
    """The results in the order of the rows; without `streamd` those of the peers alone."""
    for number, row in enumerate(rows):
        if sys.stderr.isatty():
            print(
                f"\r\x1b[K{number + 1}/{len(rows)} {row.group}: {row.name}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        result = measure(rig, row, streamd, peers[row.rival], runs)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        yield result
        if row.slow or number + 1 == len(rows) or rows[number + 1].group != row.group:
            rig.release()
