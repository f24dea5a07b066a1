"""Many seeds, over several processes: what happened in all of them, and which failed.

Guarantee:  the outcome of a seed doesn't depend on the others, nor on how they are spread.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamd.sim.world import World

#: Makes the world of a seed; importable, so that another process can.
Make = "Callable[[int], World]"


@dataclass(slots=True)
class Summary:
    """Of a run of seeds."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)

    def missing(self, names: Iterable[str]) -> list[str]:
        """What never happened though it should have."""
        return [name for name in names if not self.counts[name]]

    def lines(self) -> Iterator[str]:
        """To print."""
        yield f"{self.seeds} seeds, {len(self.failures)} failed"
        width = max(map(len, self.counts), default=0)
        for name in sorted(self.counts):
            yield f"  {name:<{width}} {self.counts[name]:>10,}"
        for seed in sorted(self.failures):
            yield self.failures[seed]


def one(make: Callable[[int], World], seed: int) -> tuple[int, Counter[str], str | None]:
    """Live through a seed: what happened, and what broke."""
    with make(seed) as world:
        try:
            return seed, world.run(), None
        except Violation as error:
            return seed, world.counts, str(error)


def run(
    make: Callable[[int], World], seeds: Iterable[int], *, jobs: int | None = None, first_only: bool = False
) -> Summary:
    """Live through seeds, `jobs` at a time (one a core). `first_only`: stop at the first that fails."""
    summary = Summary()
    jobs = jobs or len(os.sched_getaffinity(0))
    seeds = list(seeds)
    if jobs == 1 or len(seeds) == 1:
        _gather(summary, map(partial(one, make), seeds), first_only)
        return summary
    # A fresh interpreter a job: LMDB and threads don't outlive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        _gather(summary, pool.map(partial(one, make), seeds, chunksize=4), first_only)
        if first_only and summary.failures:
            pool.shutdown(cancel_futures=True)
    return summary


def _gather(summary: Summary, outcomes: Iterable[tuple[int, Counter[str], str | None]], first_only: bool) -> None:
    for seed, counts, failure in outcomes:
        summary.seeds += 1
        summary.counts.update(counts)
        if failure is not None:
            summary.failures[seed] = failure
            if first_only:
                return
