"""Figures for people: Markdown tables, which are readable on a terminal as well."""

from typing import Any

import attrs

from benchmarks.servers import SERVERS
from benchmarks.targets import judge

OURS = ("localful-lean", "localful-trio-websocket")
"""Whose ratios are shown: the first that was measured."""


@attrs.frozen
class Column:
    """A figure of a scenario."""

    metric: str
    header: str
    compared: bool = True


COLUMNS: dict[str, tuple[Column, ...]] = {
    "fanout": (
        Column("single_us", "one at a time, µs"),
        Column("burst_us", "bursts, µs"),
        Column("burst_per_second", "delivered/s in bursts", compared=False),
    ),
    "users": (
        Column("event_us", "per delivered event, µs"),
        Column("events_per_second", "events/s", compared=False),
    ),
    "latency": (
        Column("p50_ms", "p50, ms"),
        Column("p99_ms", "p99, ms"),
        Column("p99.9_ms", "p99.9, ms"),
        Column("worst_ms", "worst, ms"),
        Column("event_us", "CPU per event, µs", compared=False),
        Column("gc_pauses", "collector pauses", compared=False),
        Column("gc_longest_ms", "longest up to, ms", compared=False),
    ),
    "storm": (
        Column("all_back_s", "all back, s"),
        Column("cpu_s", "CPU, s"),
        Column("retries", "retries", compared=False),
        Column("calm_p99_ms", "p99 before, ms", compared=False),
        Column("storm_p50_ms", "p50 meanwhile, ms"),
        Column("storm_p99_ms", "p99 meanwhile, ms"),
        Column("storm_worst_ms", "worst, ms", compared=False),
    ),
}
FAMILIES = (
    ("connect_us", "CPU per connect and authenticate, µs, from a fresh start"),
    ("further_us", "CPU per further connect and authenticate, µs, since the level below"),
    ("rss_kib", "RSS per connection, KiB"),
    ("event_us", "CPU per event published to one user with ten devices, µs"),
)
CAPTIONS = {
    "fanout": "CPU of the server per delivered event, one user with {fanout_devices} devices",
    "users": "CPU of the server per delivered event, {users} users with two devices, batches of {batch}",
    "latency": "Publish to delivery, {latency_rate} events a second beside {latency_idle} idle devices",
    "storm": "{storm_devices} devices dropped and reconnecting at once",
}


def levels_of(servers: dict[str, Any]) -> list[int]:
    """The numbers of connections that were measured."""
    names = {name for figures in servers.values() for name in figures["median"] if "@" in name}
    return sorted({int(name.partition("@")[2]) for name in names})


def columns_of(scenario: str, servers: dict[str, Any]) -> list[tuple[str, tuple[Column, ...]]]:
    """The tables of a scenario: caption and columns."""
    if scenario == "connections":
        return [
            (caption, tuple(Column(f"{metric}@{level}", f"{level:,}") for level in levels_of(servers)))
            for metric, caption in FAMILIES
        ]
    present = {name for figures in servers.values() for name in figures["median"]}
    return [(CAPTIONS[scenario], tuple(column for column in COLUMNS[scenario] if column.metric in present))]


def number(value: float | None) -> str:
    """Three digits are what a noisy machine can give."""
    if value is None:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def aligned(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def scenario_tables(record: dict[str, Any], scenario: str) -> str:
    """All of a scenario: figures, and the ratios of the daemon to each of the others."""
    servers = record["scenarios"][scenario]
    ours = next((name for name in OURS if servers.get(name, {}).get("median")), None)
    parts = []
    for caption, columns in columns_of(scenario, servers):
        rows = [["server", *(column.header for column in columns)]]
        for name, figures in servers.items():
            if any(column.metric in figures["median"] for column in columns):
                label = SERVERS[name].label + (" (FAILED)" if figures["failures"] else "")
                rows.append([label, *(cell(servers, ours, name, column) for column in columns)])
        brackets = f"; in brackets, {SERVERS[ours].label} ÷ it" if ours else ""
        title = f"{caption.format(**record['sizes'])} (median of {record['alternations']}{brackets}):"
        parts.append(f"{title}\n\n{aligned(rows)}")
    notes = [f"- {SERVERS[name].label}: {SERVERS[name].note}." for name in servers if SERVERS[name].note]
    failures = [
        f"- FAILED: {name}: {line}" for name, figures in servers.items() for line in figures["failures"]
    ]
    return "\n\n".join([*parts, "\n".join([*notes, *failures])]).strip()


def cell(servers: dict[str, Any], ours: str | None, name: str, column: Column) -> str:
    """A figure, and how much of it ours is."""
    value = servers[name]["median"].get(column.metric)
    mine = servers[ours]["median"].get(column.metric) if ours else None
    if not column.compared or name == ours or not value or mine is None:
        return number(value)
    return f"{number(value)} ({mine / value:.2f})"


def target_table(record: dict[str, Any]) -> str:
    """What it must show, and what it shows."""
    if record["quick"]:
        return "A quick run is too small to be judged."
    verdicts = judge(record)
    rows = [["what", "against", "at most", "measured", ""]]
    rows += [
        [
            verdict.target.what,
            verdict.target.against,
            f"{verdict.target.limit:g}",
            f"{verdict.ratio:.2f}",
            "yes" if verdict.holds else "NO",
        ]
        for verdict in verdicts
        if verdict.ratio is not None
    ]
    missing = sum(verdict.ratio is None for verdict in verdicts)
    tail = f"Not measured in this run: {missing} of {len(verdicts)}."
    return "\n\n".join([*([aligned(rows)] if len(rows) > 1 else []), *([tail] if missing else [])])


def setting_line(record: dict[str, Any]) -> str:
    """On what and with what, in a sentence."""
    machine = record["machine"]
    what = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"{record['started'][:10]}, {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gib']} GiB, {machine['system']}; {what}."
    )


def report(record: dict[str, Any]) -> str:
    """Everything."""
    parts = [setting_line(record)]
    for scenario in record["scenarios"]:
        parts += [f"### {scenario}", scenario_tables(record, scenario)]
    parts += ["### What it must show", target_table(record)]
    parts += [f"Skipped: {name}: {line}" for name, line in record["skipped"].items()]
    return "\n\n".join(parts) + "\n"
