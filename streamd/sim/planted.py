"""Bugs that the checker must catch: each fix of the recipe left out in turn, and promises made too early.

Guarantee:  nothing here touches a server: the switches are arguments of simulated nodes.
Source:     docs/raft.md, which says what each fix is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from streamd.raft.options import Fixes
from streamd.sim.raft_world import RaftWorld
from streamd.sim.seeds import run as run_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Bug:
    """Something wrong on purpose."""

    what: str
    make: Callable[[int], RaftWorld]
    must: bool = True  # whether many seeds have to catch it


def _without(what: str, *names: str, must: bool = True) -> Bug:
    fixes = Fixes(**dict.fromkeys(names, False))
    return Bug(what, partial(RaftWorld, fixes=fixes), must)


PLANTED: Final = {
    "ack-before-quorum": Bug("publishers are acked when the leader has proposed", partial(RaftWorld, eager=True)),
    "vote-not-persisted": _without("term and vote are forgotten by a crash", "persist_vote"),
    "truncation-not-atomic": _without("a conflicting tail is cut in a commit of its own", "atomic_truncation"),
    "no-barrier": _without("messages leave before what they speak of is durable", "barrier"),
    "no-clip": _without("the leader counts its own entries before they are durable", "clip"),
    "no-term": _without("answers of an earlier term are taken, stale senders are not told", "term"),
    "no-guard": _without("followers cut their logs at every append", "guard"),
    "no-dedupe": _without("a vote counts as often as it comes", "dedupe", must=False),
    "no-dedupe-no-sticky": Bug(
        "the same, without pre-vote and with most frames doubled",
        partial(RaftWorld, fixes=Fixes(dedupe=False, sticky=False), duplicates=0.7),
    ),
    "no-sticky": _without("no pre-vote, a returning node deposes a leader", "sticky", must=False),
    "no-applied-gate": _without("entries are applied before they are durable here", "applied_gate", must=False),
    "no-one-at-a-time": Bug(
        "configurations overlap without a common quorum, and change all the time",
        partial(RaftWorld, fixes=Fixes(one_at_a_time=False), change_ms=15),
    ),
}


def table(seeds: Iterable[int], *, jobs: int | None = None) -> Iterator[tuple[str, str, bool]]:
    """Every bug under every seed: its name, a line to print, and whether it was caught or needn't be."""
    numbers = list(seeds)
    yield "", f"{'bug':<24} {'seeds':>6} {'caught':>6}  first seeds, and what the first one shows", True
    for name, bug in PLANTED.items():
        summary = run_seeds(bug.make, numbers, jobs=jobs)
        caught = sorted(summary.failures)
        first = f": {summary.failures[caught[0]]}" if caught else ""
        line = f"{name:<24} {summary.seeds:>6} {len(caught):>6}  {', '.join(map(str, caught[:3])) or '-'}{first}"
        yield name, line, bool(caught) or not bug.must
