"""Results as a picture. Above: one bar a row, how many times better than the peer, on a logarithmic
scale; below: the rows with a ceiling of their own, in seconds. A black mark is the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report import figure
from benchmarks.row import Goal, Result, median

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

MET = "#2f7d5b"
MISSED = "#c4632f"
PEER = "#b9bdc4"
INK = "#333333"
RULE = "#e4e4e4"
TICKS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
BAR_INCHES = 0.3


def plot(known: dict[str, Any], results: list[Result], path: Path) -> None:
    """Writes the PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    usable = [result for result in results if result.ratio is not None]
    ratios = [result for result in usable if result.row.goal is not Goal.VALUE_AT_MOST]
    ceilings = [result for result in usable if result.row.goal is Goal.VALUE_AT_MOST]
    panels = [(rows, draw) for rows, draw in ((ratios, draw_ratios), (ceilings, draw_ceilings)) if rows]
    if not panels:
        return
    heights = [len(rows) + 1.5 for rows, _ in panels]
    with pyplot.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK}):
        sheet, grid = pyplot.subplots(
            len(panels),
            1,
            figsize=(10, 1 + BAR_INCHES * sum(heights)),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        for (rows, draw), axes in zip(panels, grid[:, 0], strict=True):
            frame(axes, rows)
            draw(axes, rows)
        peer = known["peer"].replace(":", "")
        sheet.suptitle(f"streamd beside {peer}", x=0.01, ha="left", fontsize=12, fontweight="bold")
        sheet.supxlabel(
            f"{known['cores']} cores, medians of {known['runs']} samples, the servers in turn. "
            "Black mark: the target; green: met.",
            fontsize=8,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.savefig(path, dpi=150, facecolor="white")
        pyplot.close(sheet)


def frame(axes: Axes, rows: list[Result]) -> None:
    axes.set_yticks(range(len(rows)), [f"{result.row.group}: {result.row.name}" for result in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def mark(axes: Axes, place: int, target: float) -> None:
    axes.plot([target, target], [place - 0.42, place + 0.42], color=INK, linewidth=1.8)


def color(result: Result) -> str:
    return MET if result.met else MISSED


def better(result: Result) -> tuple[float, float]:
    """How many times better than the peer streamd is and has to be: above 1 is better for each unit."""
    assert result.ratio is not None
    if result.row.goal is Goal.RATIO_AT_LEAST:
        return result.ratio, result.row.target
    return 1 / result.ratio, 1 / result.row.target


def times(value: float) -> str:
    return f"{value:.0f}×" if value >= 10 else f"{value:.1f}×" if value >= 1.95 else f"{value:.2f}×"


def draw_ratios(axes: Axes, rows: list[Result]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    pairs = [better(result) for result in rows]
    low = min(0.75, *(min(pair) for pair in pairs)) * 0.9
    high = max(2.0, *(max(pair) for pair in pairs))
    for place, (result, (value, target)) in enumerate(zip(rows, pairs, strict=True)):
        axes.barh(place, value - 1, left=1, height=0.62, color=color(result))
        mark(axes, place, target)
        ours, theirs = (figure(result.row.unit, median(each)) for each in (result.streamd, result.peer))
        text = f"{times(value)}   {ours} : {theirs} {result.row.unit.value}"
        axes.text(max(value, target, 1) * 1.04, place, text, va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(low, high * (high / low) ** 0.4)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}×"))
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_title("times better than the peer (streamd : peer)", loc="left", fontsize=9)


def draw_ceilings(axes: Axes, rows: list[Result]) -> None:
    widest = max(max(median(result.streamd), median(result.peer), result.row.target) for result in rows)
    for place, result in enumerate(rows):
        ours, theirs = median(result.streamd), median(result.peer)
        axes.barh(place - 0.17, ours, height=0.32, color=color(result))
        axes.barh(place + 0.17, theirs, height=0.32, color=PEER)
        mark(axes, place, result.row.target)
        text = f"{figure(result.row.unit, ours)} : {figure(result.row.unit, theirs)} {result.row.unit.value}"
        axes.text(max(ours, theirs, result.row.target) + widest * 0.015, place, text, va="center", fontsize=8)
    axes.set_xlim(0, widest * 1.25)
    axes.set_title("seconds, less is better (grey: the peer)", loc="left", fontsize=9)
