"""Results as a picture: one bar a row, on a logarithmic scale of how much better than the peer, with the targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report import figure
from benchmarks.row import Goal, Result, median

if TYPE_CHECKING:
    from pathlib import Path

MET = "#2f7d5b"
MISSED = "#c4632f"
INK = "#333333"
FAINT = "#8a8a8a"


def better(result: Result) -> tuple[float, float] | None:
    """How many times better than the peer streamd is, and has to be: above 1 is better for every unit."""
    row = result.row
    if result.ratio is None:
        return None
    if row.goal is Goal.RATIO_AT_LEAST:
        return result.ratio, row.target
    if row.goal is Goal.RATIO_AT_MOST:
        return 1 / result.ratio, 1 / row.target
    return 1 / result.ratio, median(result.peer) / row.target


def times(value: float) -> str:
    return f"{value:.0f}×" if value >= 10 else f"{value:.1f}×" if value >= 1.95 else f"{value:.2f}×"


def plot(known: dict[str, Any], results: list[Result], path: Path) -> None:
    """Writes the PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    shown = [(result, pair) for result in results if (pair := better(result))]
    if not shown:
        return
    with pyplot.rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK}):
        figure_, axes = pyplot.subplots(figsize=(10, 1.5 + 0.3 * len(shown)), layout="constrained")
        low = min(0.7, *(min(pair) for _, pair in shown)) * 0.85
        high = max(2.0, *(max(pair) for _, pair in shown)) * 4.5
        names = []
        for place, (result, (value, target)) in enumerate(shown):
            color = MET if result.met else MISSED
            axes.barh(place, value - 1, left=1, height=0.62, color=color, zorder=2)
            axes.plot([target, target], [place - 0.42, place + 0.42], color=INK, linewidth=1.8, zorder=3)
            unit = result.row.unit
            ours, theirs = (figure(unit, median(v)) for v in (result.streamd, result.peer))
            beside = f"{times(value)}   {ours} : {theirs} {unit.value}"
            axes.text(max(value, target, 1) * 1.06, place, beside, va="center", fontsize=8, zorder=4)
            names.append(f"{result.row.group}: {result.row.name}")
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        ticks = [tick for tick in (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= tick <= high]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}×"))
        axes.axvline(1, color=FAINT, linewidth=1, zorder=1)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.7, zorder=0)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        peer = known["peer"].replace(":", "")
        axes.set_title(
            f"streamd: how many times better than {peer}", loc="left", fontsize=11, fontweight="bold"
        )
        axes.set_xlabel(
            f"{known['cores']} cores, median of {known['runs']} samples, the servers in turn. "
            "The black mark is the target; beside each bar the figures, streamd : peer.",
            loc="left",
            fontsize=8,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure_.savefig(path, dpi=150, facecolor="white")
        pyplot.close(figure_)
