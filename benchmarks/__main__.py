"""`python -m benchmarks`: the command line of the benchmark."""

from __future__ import annotations

import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import click

from benchmarks import cluster, core, peer, peer_stan, report, stan, start, stored
from benchmarks.contest import contest
from benchmarks.plot import plot as draw
from benchmarks.rig import Rig
from benchmarks.row import Result, Rival, Row
from benchmarks.server import Software
from benchmarks.wire import BenchError

ROWS = [*core.ROWS, *stored.ROWS, *start.ROWS, *stan.ROWS, *cluster.ROWS]
BUILDERS = {Rival.NATS: peer.build, Rival.STREAMING: peer_stan.build}


def streamd_command(given: str | None) -> tuple[str, ...]:
    if given:
        program, *options = shlex.split(given)
        return absolute(program), *options
    beside = Path(sys.executable).with_name("streamd")
    found = str(beside) if beside.exists() else shutil.which("streamd")
    if not found:
        raise click.ClickException("no `streamd` beside this Python nor on the PATH: build it, or give --streamd CMD")
    return (found,)


def absolute(program: str) -> str:
    """The program's own path: servers are started in directories of their own."""
    found = shutil.which(program)
    if not found:
        raise click.ClickException(f"no program {program}")
    return str(Path(found).absolute())


def refuse_debug_build(command: tuple[str, ...]) -> None:
    """Asks the interpreter beside the program for its build profile: a debug engine measures nothing."""
    python = Path(command[0]).parent / "python"
    if not python.exists():
        return
    code = "from streamd._engine import BUILD_PROFILE; print(BUILD_PROFILE)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        print(f"the build profile of {command[0]} is unknown: {done.stderr.strip()[-200:]}", file=sys.stderr)
    elif done.stdout.strip() != "release":
        raise click.ClickException(f"{command[0]} has a {done.stdout.strip()} engine: measure a release build")


def rivals(rows: list[Row], given: dict[Rival, str | None]) -> dict[Rival, Software]:
    """The peers of these rows; those that are not given are built. Errors: BenchError."""
    needed = [rival for rival in Rival if any(row.rival is rival for row in rows)]
    paths = {rival: given[rival] for rival in needed}
    return {
        rival: Software(rival.value, (absolute(path) if path else str(BUILDERS[rival]()),))
        for rival, path in paths.items()
    }


def raise_file_limit() -> None:
    """The idle row needs thousands of sockets, here and (inherited) in the server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", metavar="PATTERN", help="Only rows whose `group: name` matches this regular expression.")
@click.option("--runs", type=click.IntRange(1), help="Samples per row and server.  [default: 5; quick: 3]")
@click.option("--quick", is_flag=True, help="Short samples and small stores: a look, not a measurement.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all samples to this file.")
@click.option("--table", "table_file", type=click.Path(path_type=Path), help="Write the README's table to this file.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Write the picture to this file.")
@click.option("--kills", type=click.IntRange(1), help="Kills of a cluster's leader.  [default: 50; quick: 5]")
@click.option("--streamd", "streamd_line", metavar="CMD", help="How to start streamd.")
@click.option("--peer", "peer_path", metavar="PATH", help="A nats-server to use instead of building one.")
@click.option(
    "--stan-peer", "stan_path", metavar="PATH", help="A nats-streaming-server to use instead of building one."
)
@click.option("--peer-only", is_flag=True, help="Measure the peers without streamd.")
@click.option("--dir", "parent", type=click.Path(path_type=Path, exists=True), help="Where the stores may stand.")
@click.option("--list", "listing", is_flag=True, help="Print the rows and their targets.")
def main(
    only: str | None,
    runs: int | None,
    quick: bool,
    json_file: Path | None,
    table_file: Path | None,
    plot_file: Path | None,
    kills: int | None,
    streamd_line: str | None,
    peer_path: str | None,
    stan_path: str | None,
    peer_only: bool,
    parent: Path | None,
    listing: bool,
) -> None:
    """Measures streamd beside nats-server and nats-streaming-server and prints medians, ratios and targets.

    Each sample has a fresh server on a free port; the two take turns. Exits with 1 if a row
    failed; a missed target is only told.
    """
    rows = [row for row in ROWS if not only or re.search(only, f"{row.group}: {row.name}")]
    if listing or not rows:
        for row in rows:
            print(f"{row.group}: {row.name:{report.NAME_WIDTH}} {report.target(Result(row, (), (), ()))}")
        sys.exit(0 if rows else "no row matches")
    streamd = None
    if not peer_only:
        streamd = Software("streamd", streamd_command(streamd_line))
        refuse_debug_build(streamd.command)
    raise_file_limit()
    # Asked to end, it ends its servers and removes their stores first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        peers = rivals(rows, {Rival.NATS: peer_path, Rival.STREAMING: stan_path})
        versions = streamd.version() if streamd else "-", " and ".join(each.version() for each in peers.values())
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    runs = runs or (3 if quick else 5)
    with tempfile.TemporaryDirectory(prefix="streamd-bench-", dir=parent) as home:
        rig = Rig(
            Path(home),
            seconds=0.5 if quick else 2.0,
            consumed=50_000 if quick else 200_000,
            recovered=500_000 if quick else 5_000_000,
            idle_connections=500 if quick else 2_000,
            kills=kills or (5 if quick else 50),
            missed=50_000 if quick else 200_000,
            idle_streams=100 if quick else 500,
            idle_seconds=5 if quick else 20,
            pairs=20 if quick else 100,
        )
        known = report.facts(*versions, rig.home, runs, rig.seconds)
        print(report.head(known))
        if known["disk"] in {"tmpfs", "ramfs"}:
            print("WARNING: the store is in memory, the stored rows mean nothing: give --dir")
        print(f"\n{report.HEADER}", flush=True)
        results: list[Result] = []
        for group, members in groupby(contest(rig, rows, streamd, peers, runs), key=lambda result: result.row.group):
            print(f"-- {group}", flush=True)
            for result in members:
                print(report.line(result), flush=True)
                results.append(result)
    if streamd:
        met = sum(result.met is True for result in results)
        print(f"\n{met} of {len(results)} targets met")
    if json_file:
        json_file.write_text(report.as_json(known, results))
    if table_file:
        table_file.write_text(report.table(results))
    if plot_file:
        draw(known, results, plot_file)
    sys.exit(1 if any(result.failure for result in results) else 0)


if __name__ == "__main__":
    main()
