"""Figures for people: Markdown tables, which are readable on a terminal as well."""

from typing import Any

from benchmarks.columns import FAMILIES, PHASED, TABLES, Column, Phased
from benchmarks.servers import server_named
from benchmarks.targets import judge

OURS = ("localful-lean", "localful-trio-websocket", "localful-redis")
"""Whose ratios are shown: the first that was measured."""
OURS_IN = {"load": ("localful-redis",)}
"""The same, where it is another."""


def levels_of(servers: dict[str, Any]) -> list[int]:
    """The numbers of connections that were measured."""
    names = {name for figures in servers.values() for name in figures["median"] if "@" in name}
    return sorted({int(name.partition("@")[2]) for name in names})


def columns_of(scenario: str, servers: dict[str, Any]) -> list[tuple[str, tuple[Column, ...]]]:
    """The tables of a scenario: caption and columns."""
    families: list[tuple[str, tuple[Column, ...]]] = []
    if scenario == "connections":
        families = [
            (caption, tuple(Column(f"{metric}@{level}", f"{level:,}") for level in levels_of(servers)))
            for metric, caption in FAMILIES
        ]
    present = {name for figures in servers.values() for name in figures["median"]}
    tables = [
        (caption, tuple(column for column in columns if column.metric in present))
        for caption, columns in TABLES.get(scenario, ())
    ]
    return families + [(caption, columns) for caption, columns in tables if columns]


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
    """All of a scenario: figures, ratios of the daemon to each of the others, and what was not measured."""
    servers = record["scenarios"][scenario]
    parts = plain_tables(record, scenario, servers)
    if scenario in PHASED:
        parts = phase_tables(record, PHASED[scenario], servers) + parts
    notes = [
        f"- {server_named(name).label}: {note}." for name in servers if (note := server_named(name).note)
    ]
    settings = ", ".join(f"{name}={value}" for name, value in record.get("settings", {}).items())
    lines = [*notes, *([f"- Settings: {settings}."] if settings else []), *skipped_in(record, scenario)]
    return "\n\n".join([*parts, "\n".join([*lines, *failures_of(servers)])]).strip()


def plain_tables(record: dict[str, Any], scenario: str, servers: dict[str, Any]) -> list[str]:
    """Tables with a row for each server."""
    ours = next((name for name in OURS_IN.get(scenario, OURS) if servers.get(name, {}).get("median")), None)
    sizes = record["sizes"] | {"cores": record["machine"]["cores"]}
    brackets = f"; in brackets, {server_named(ours).label} ÷ it" if ours else ""
    parts = []
    for caption, columns in columns_of(scenario, servers):
        rows = [["server", *(column.header.format(**sizes) for column in columns)]]
        for name, figures in servers.items():
            if any(column.metric in figures["median"] for column in columns):
                label = server_named(name).label + (" (FAILED)" if figures["failures"] else "")
                rows.append([label, *(cell(servers, ours, name, column) for column in columns)])
        shown = brackets if any(column.compared for column in columns) else ""
        title = f"{caption.format(**sizes)} (median of {record['alternations']}{shown}):"
        parts.append(f"{title}\n\n{aligned(rows)}")
    return parts


def skipped_in(record: dict[str, Any], scenario: str) -> list[str]:
    """A line for each server that would have been measured, had it been installed."""
    return [
        f"- {server_named(name).label}: not measured: {line}."
        for name, line in record["skipped"].items()
        if scenario in server_named(name).scenarios
    ]


def failures_of(servers: dict[str, Any]) -> list[str]:
    """A line for each run that failed."""
    return [f"- FAILED: {name}: {line}" for name, figures in servers.items() for line in figures["failures"]]


def phase_tables(record: dict[str, Any], phased: Phased, servers: dict[str, Any]) -> list[str]:
    """For each server a table with a row for each phase."""
    caption = phased.caption.format(**record["sizes"])
    parts = []
    for name, figures in servers.items():
        median = figures["median"]
        labels = [key.partition("@")[2] for key in median if key.startswith(f"{phased.metric}@")]
        labels.sort(key=phased.order)
        rows = [[phased.phase, *phased.columns.values()]]
        for label in labels:
            where = phased.names.get(label) or (f"{int(label):,}" if label.isdecimal() else label)
            rows.append([where, *(number(median.get(f"{metric}@{label}")) for metric in phased.columns)])
        if phased.tally:
            tallies = [tally(median, phased.tally, label) for label in labels]
            rows = [[*row, cell] for row, cell in zip(rows, [phased.tally, *tallies], strict=True)]
        if labels:
            title = f"{caption} ({server_named(name).label}; median of {record['alternations']}):"
            parts.append(f"{title}\n\n{aligned(rows)}")
    return parts


def tally(figures: dict[str, float], what: str, label: str) -> str:
    """How many of what there were in a phase, the most frequent first."""
    prefix, suffix = f"{what}: ", f"@{label}"
    counts = {
        key.removeprefix(prefix).removesuffix(suffix): count
        for key, count in figures.items()
        if key.startswith(prefix) and key.endswith(suffix)
    }
    frequent = sorted(counts, key=lambda how: -counts[how])
    return ", ".join(f"{how} ({counts[how]:,.0f})" for how in frequent) or "-"


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
    rows = [["what", "against", "wanted", "measured", ""]]
    rows += [
        [
            verdict.target.what.format(**record["sizes"]),
            verdict.target.against,
            f"{verdict.target.bound.value} {verdict.target.limit:,g}",
            number(verdict.measured) if verdict.target.other is None else f"{verdict.measured:.2f}",
            "yes" if verdict.holds else "NO",
        ]
        for verdict in verdicts
        if verdict.measured is not None
    ]
    missing = sum(verdict.measured is None for verdict in verdicts)
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
    return "\n\n".join(parts) + "\n"
