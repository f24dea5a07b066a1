"""Results as text and as JSON. Medians of all samples, the ratio to the peer, the target and
whether it is met."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.row import Goal, Result, Unit, median

NAME_WIDTH = 41
HEADER = f"{'':{NAME_WIDTH}} {'streamd':>9} {'peer':>9} {'ratio':>7} {'target':>9}      {'limit':>8}  {'unit':5}"


def figure(unit: Unit, value: float) -> str:
    if unit is Unit.RATE:
        for size, letter in ((1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:.3g} {letter}" if value < size * 100 else f"{value / size:.0f} {letter}"
        return f"{value:.0f}"
    return f"{value:.3f}" if unit is Unit.SECONDS else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def target(result: Result) -> str:
    row = result.row
    if row.goal is Goal.VALUE_AT_MOST:
        return f"<= {row.target:g} {row.unit.value}"
    return f"{row.goal.value} {row.target:g}x"


def ratio(result: Result) -> str:
    if result.ratio is None:
        return "-"
    digits = 0 if result.ratio >= 10 else 2 if result.ratio >= 0.02 else 3
    return f"{result.ratio:.{digits}f}x"


def line(result: Result) -> str:
    unit = result.row.unit
    cells = [figure(unit, median(v)) if v else "-" for v in (result.streamd, result.peer, result.limit)]
    verdict = {True: "met", False: "MISS", None: ""}[result.met]
    text = (
        f"{result.row.name:{NAME_WIDTH}} {cells[0]:>9} {cells[1]:>9} {ratio(result):>7} {target(result):>9} "
        f"{verdict:4} {cells[2]:>8}  {unit.value}"
    )
    if result.failure:
        text += "\n  ! " + result.failure.strip().replace("\n", "\n    ")
    return text


def table(results: list[Result]) -> str:
    """The rows as the README shows them."""
    signs = {Goal.RATIO_AT_LEAST: "≥", Goal.RATIO_AT_MOST: "≤", Goal.VALUE_AT_MOST: "≤"}
    lines = ["| work | streamd | peer | ratio | goal | |", "| --- | --- | --- | --- | --- | --- |"]
    for result in results:
        row = result.row
        ours, theirs = (
            f"{figure(row.unit, median(v))} {row.unit.value}" if v else "-" for v in (result.streamd, result.peer)
        )
        unit = row.unit.value if row.goal is Goal.VALUE_AT_MOST else "×"
        verdict = {True: "✓", False: "missed", None: ""}[result.met]
        goal = f"{signs[row.goal]} {row.target:g} {unit}"
        times = ratio(result).replace("x", " ×")
        lines.append(f"| {row.group}: {row.name} | {ours} | {theirs} | {times} | {goal} | {verdict} |")
    return "\n".join(lines) + "\n"


def filesystem(path: Path) -> str:
    """Type of the file system below `path`: tmpfs makes every fsync a lie."""
    best = ("", "?")
    for mount in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = mount.split()
        if str(path.resolve()).startswith(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def facts(streamd_version: str, peer_version: str, home: Path, runs: int, seconds: float) -> dict[str, Any]:
    return {
        "streamd": streamd_version,
        "peer": peer_version,
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "disk": filesystem(home),
        "runs": runs,
        "seconds": seconds,
        "sync": "defaults = each server's own: streamd fsyncs before an ack, nats-server every 2 minutes; "
        'relaxed = sync_interval "2m"; always = sync_interval "always"; streaming: synced = the default of both, '
        "relaxed = sync_on_flush false",
    }


def head(known: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"{known['streamd']} beside {known['peer']}",
            f"Python {known['python']}, {known['kernel']}, {known['cores']} cores, store on {known['disk']}",
            f"median of {known['runs']} samples of {known['seconds']:g} s, the servers in turn",
            f"sync: {known['sync']}",
            "limit: a process that only moves the bytes between the sockets (stored: to the disk)",
        ]
    )


def as_json(known: dict[str, Any], results: list[Result]) -> str:
    rows = [
        {
            "group": result.row.group,
            "name": result.row.name,
            "unit": result.row.unit.value,
            "goal": result.row.goal.value,
            "target": result.row.target,
            "streamd": result.streamd,
            "peer": result.peer,
            "limit": result.limit,
            "ratio": result.ratio,
            "met": result.met,
            "failure": result.failure,
        }
        for result in results
    ]
    return json.dumps({"facts": known, "rows": rows}, indent=2) + "\n"
