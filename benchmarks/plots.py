"""Pictures of what is better seen than read, as SVG or PNG by the ending of the file's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Latencies

INSTALL_HINT = "pip install '.[bench]'"
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)


def figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    """A figure and its axes, drawn without a screen; RuntimeError says what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeError(f"pictures need matplotlib: {INSTALL_HINT}") from error
    made = Figure(figsize=(8, 4.5), layout="constrained")
    axes = made.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)
    return made, axes


def lines(
    path: Path,
    title: str,
    x: str,
    y: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> Path:
    """One line per name through its (xs, ys)."""
    made, axes = figure(title, x, y)
    for name, (xs, ys) in series.items():
        axes.plot(xs, ys, marker="o", markersize=3, label=name)
    if log_x:
        axes.set_xscale("log")
    if log_y:
        plain_log(axes)
    axes.legend()
    made.savefig(path)
    return path


def latency_curves(path: Path, title: str, found: Mapping[str, Latencies]) -> Path:
    """Latency (ms, logarithmic) over the quantile, spread out so that the rare ones have room."""
    made, axes = figure(title, "quantile", "milliseconds")
    rarest = 0.5
    for name, latencies in found.items():
        points = curve(latencies)
        axes.plot([1 / (1 - q) for q, _ in points], [ms for _, ms in points], marker="o", ms=3, label=name)
        rarest = max(rarest, points[-1][0] if points else 0.0)
    axes.set_xscale("log")
    plain_log(axes)
    ticks = [q for q in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999) if q <= rarest]
    axes.set_xticks([1 / (1 - q) for q in ticks], [f"{q:g}" for q in ticks])
    axes.xaxis.minorticks_off()
    axes.legend(fontsize="small")
    made.savefig(path)
    return path


def curve(latencies: Latencies) -> list[tuple[float, float]]:
    """(quantile, milliseconds) as far as there are messages: beyond, one message would be all there is."""
    shown = [q for q in QUANTILES if round(latencies.total * (1 - q), 6) >= 1]
    return [(q, (latencies.quantile(q) or 0) / 1000) for q in shown]


def plain_log(axes: Any) -> None:
    """A logarithmic vertical axis with 1, 2, 5, 10, 20 ... written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.yaxis.minorticks_off()
