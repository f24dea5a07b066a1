"""`streamd sim`: live through seeds and say what happened; the way to see a failure again.

Exit status: 0 if every promise held (with --planted: if the bug was caught), 1 if not, 2 for wrong words.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from streamd.sim import full_world, raft_world
from streamd.sim.planted import PLANTED, table
from streamd.sim.seeds import run as run_seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamd.sim.world import World


def run(arguments: Sequence[str]) -> int:
    """The words behind `sim`. Returns the exit status."""
    try:
        status = _sim.main(list(arguments), prog_name="streamd sim", standalone_mode=False)
    except click.ClickException as error:
        print(f"streamd: {error.format_message()}", file=sys.stderr)  # noqa: T201
        return 2
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0


@click.command("sim")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option("--jobs", type=click.IntRange(1), help="Processes (default: one a core).")
@click.option("--raft", is_flag=True, help="Groups of Raft alone, rather than whole servers.")
@click.option(
    "--planted",
    type=click.Choice([*PLANTED, "all"]),
    help="Groups alone, with this bug, until a seed catches it; all: a table of them over all seeds.",
)
def _sim(*, seed: int, seeds: int, jobs: int | None, raft: bool, planted: str | None) -> int:
    """A cluster under a simulated network, clock and disks, with crashes, partitions and damage."""
    numbers = range(seed, seed + seeds)
    if planted == "all":
        missed = 0
        for _, line, fine in table(numbers, jobs=jobs):
            click.echo(line)
            missed += not fine
        return 1 if missed else 0
    make: Callable[[int], World] = raft_world.RaftWorld if raft else full_world.FullWorld
    if planted is not None:
        make = PLANTED[planted].make
    summary = run_seeds(make, numbers, jobs=jobs, first_only=planted is not None)
    for line in summary.lines():
        click.echo(line)
    if planted is not None:
        return 0 if summary.failures else 1
    expected = raft_world.MUST_HAPPEN if raft else full_world.MUST_HAPPEN
    missing = summary.missing(expected) if seeds >= SEEDS_FOR_ALL else []
    for name in missing:
        click.echo(f"never happened: {name}")
    return 1 if summary.failures or missing else 0


#: So many seeds should see everything at least once.
SEEDS_FOR_ALL = 50
