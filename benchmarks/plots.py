"""The figures as pictures: SVG, drawn with matplotlib (extra `bench`)."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.servers import server_named
from benchmarks.tables import levels_of

COLOURS = {
    "localful-lean": "#c2410c",
    "localful-trio-websocket": "#f59e0b",
    "localful-redis": "#7c3aed",
    "localful-redis-file": "#c4b5fd",
    "localful-redis-workers": "#db2777",
    "node-ws": "#15803d",
    "websockets": "#1d4ed8",
    "websockets-no-ping": "#93b4f5",
    "nchan": "#6b7280",
    "floor-trio": "#a8a29e",
    "floor-sends": "#a8a29e",
}
OLDER_RELEASE = "#0e7490"
STYLE: Any = {
    "svg.hashsalt": "localful",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "legend.frameon": False,
}
LEAST = 1000
"""Fewer connections than that are lost in the noise of a whole process."""


def colour_of(server: str) -> str:
    """The same in all pictures."""
    return COLOURS.get(server, OLDER_RELEASE)


def draw(record: dict[str, Any], directory: Path) -> list[Path]:
    """Draw what the record has.

    Returns:
        The files written.
    """
    drawn = []
    with mpl.rc_context(STYLE):
        for scenario, name, plot in (
            ("connections", "connections.svg", draw_connections),
            ("latency", "latency.svg", draw_latency),
        ):
            servers = record["scenarios"].get(scenario)
            if servers:
                figure = plot(servers)
                figure.savefig(
                    directory / name, metadata={"Date": None, "Creator": None}, bbox_inches="tight"
                )
                plt.close(figure)
                drawn.append(directory / name)
    return drawn


def draw_connections(servers: dict[str, Any]) -> Any:
    """RSS, CPU per connect and CPU per event against connections."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    levels = levels_of(servers)
    shown = [level for level in levels if level >= LEAST] or levels
    panels = (
        ("rss_kib", "RSS per connection", "KiB", shown),
        ("further_us", "CPU per further connect and authenticate", "µs", shown),
        ("event_us", "CPU per event for one user with ten devices", "µs", levels),
    )
    for axis, (metric, title, unit, at) in zip(axes, panels, strict=True):
        for name, figures in servers.items():
            points = [(level, figures["median"].get(f"{metric}@{level}")) for level in at]
            known = [(level, value) for level, value in points if value is not None]
            if known:
                label = server_named(name).label
                axis.plot(
                    *zip(*known, strict=True), marker="o", markersize=4, label=label, color=colour_of(name)
                )
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("connections")
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4)
    figure.tight_layout()
    return figure


def draw_latency(servers: dict[str, Any]) -> Any:
    """How many events were slower than how many milliseconds."""
    figure, axis = plt.subplots(figsize=(8, 4.2))
    for name, figures in servers.items():
        curve = sorted((float(percent), value) for percent, value in figures["curve_ms"].items())
        if curve:
            slower = [max(100 - percent, 0.02) for percent, _value in curve]
            milliseconds = [value for _percent, value in curve]
            axis.plot(
                milliseconds,
                slower,
                marker="o",
                markersize=3,
                label=server_named(name).label,
                color=colour_of(name),
            )
            mark_pauses(axis, name, figures["median"])
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.invert_yaxis()
    axis.set_yticks([100, 50, 10, 1, 0.1, 0.02], ["fastest", "p50", "p90", "p99", "p99.9", "worst"])
    axis.minorticks_off()
    axis.set_xticks(ticks := [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], [f"{tick:g}" for tick in ticks])
    axis.set_xlabel("milliseconds from publish to delivery")
    axis.set_ylabel("quantile")
    axis.legend(loc="lower right")
    figure.tight_layout()
    return figure


def mark_pauses(axis: Axes, name: str, figures: dict[str, float]) -> None:
    """Where the longest of the collector's pauses lies on the same scale."""
    if figures.get("gc_pauses"):
        longest = figures["gc_longest_ms"]
        label = (
            f"{server_named(name).label}: {figures['gc_pauses']:.0f} collector pauses, up to {longest:g} ms"
        )
        axis.axvline(longest, color=colour_of(name), linestyle=":", linewidth=1.2, label=label)
