"""Figures for people: Markdown tables, which are readable on a terminal as well."""

from typing import Any

import attrs

from benchmarks.servers import SERVERS
from benchmarks.targets import judge

OURS = ("localful-lean", "localful-trio-websocket", "localful-redis")
"""Whose ratios are shown: the first that was measured."""
OURS_IN = {"load": ("localful-redis",)}
"""The same, where it is another."""


@attrs.frozen
class Column:
    """A figure of a scenario."""

    metric: str
    header: str
    compared: bool = True


TABLES: dict[str, tuple[tuple[str, tuple[Column, ...]], ...]] = {
    "fanout": (
        (
            "CPU of the server per delivered event, one user with {fanout_devices} devices",
            (
                Column("single_us", "one at a time, µs"),
                Column("burst_us", "bursts, µs"),
                Column("burst_per_second", "delivered/s in bursts", compared=False),
            ),
        ),
    ),
    "users": (
        (
            "CPU of the server per delivered event, {users} users with two devices, batches of {batch}",
            (
                Column("event_us", "per delivered event, µs"),
                Column("event_redis_us", "Redis beside it, µs", compared=False),
                Column("events_per_second", "events/s", compared=False),
            ),
        ),
    ),
    "latency": (
        (
            "Publish to delivery, {latency_rate} events a second beside {latency_idle} idle devices",
            (
                Column("p50_ms", "p50, ms"),
                Column("p99_ms", "p99, ms"),
                Column("p99.9_ms", "p99.9, ms"),
                Column("worst_ms", "worst, ms"),
                Column("event_us", "CPU per event, µs", compared=False),
                Column("event_redis_us", "Redis beside it, µs", compared=False),
                Column("gc_pauses", "collector pauses", compared=False),
                Column("gc_longest_ms", "longest up to, ms", compared=False),
            ),
        ),
    ),
    "storm": (
        (
            "{storm_devices} devices dropped and reconnecting at once",
            (
                Column("all_back_s", "all back, s"),
                Column("cpu_s", "CPU, s"),
                Column("retries", "retries", compared=False),
                Column("calm_p99_ms", "p99 before, ms", compared=False),
                Column("storm_p50_ms", "p50 meanwhile, ms"),
                Column("storm_p99_ms", "p99 meanwhile, ms"),
                Column("storm_worst_ms", "worst, ms", compared=False),
            ),
        ),
    ),
    "load": (
        (
            "What gets through, as fast as it goes, and latency at {load_rate} single events a second",
            (
                Column("connects_per_second", "connects/s"),
                Column("single_per_second", "single events/s"),
                Column("batch_per_second", "events/s in batches of {load_batch}"),
                Column("paced_p50_ms", "p50 at the rate, ms"),
                Column("paced_p99_ms", "p99 at the rate, ms"),
            ),
        ),
        (
            "CPU of the server, all its processes together, and of Redis, µs",
            (
                Column("connect_us", "per connect"),
                Column("connect_redis_us", "Redis", compared=False),
                Column("single_us", "per single event"),
                Column("single_redis_us", "Redis", compared=False),
                Column("batch_us", "per event in batches"),
                Column("batch_redis_us", "Redis", compared=False),
            ),
        ),
        (
            "Cores that were busy meanwhile, of {cores}: the server's, Redis', the client's",
            tuple(
                Column(f"{phase}_{whose}cores", f"{title}: {label}", compared=False)
                for phase, title in (("connect", "connects"), ("single", "single"), ("batch", "batches"))
                for whose, label in (("", "server"), ("redis_", "Redis"), ("client_", "client"))
            ),
        ),
    ),
    "resume": (
        (
            "CPU per device that reconnects, of {resume_devices}; µs",
            (
                Column("plain_us", "without resuming"),
                Column("plain_redis_us", "Redis", compared=False),
                Column("resume_us", "with {resume_missed} missed events"),
                Column("resume_redis_us", "Redis", compared=False),
                Column("missed_us", "difference per missed event"),
                Column("resume_s", "all up to date, s", compared=False),
            ),
        ),
    ),
}
OTHERS = {
    "rate": "really published/s",
    "node_ms": "CPU of the node, ms/s",
    "own_us": "per own event, µs",
    "p99_ms": "p99 of own events, ms",
    "redis_ms": "CPU of its Redis, ms/s",
    "other_ms": "CPU of the other node, ms/s",
}
NAMED_PHASES = {"idle": "0, and none of its own", "elsewhere": "as many, into another Redis"}
FAMILIES = (
    ("connect_us", "CPU per connect and authenticate, µs, from a fresh start"),
    ("further_us", "CPU per further connect and authenticate, µs, since the level below"),
    ("rss_kib", "RSS per connection, KiB"),
    ("event_us", "CPU per event published to one user with ten devices, µs"),
)


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
    return [
        (caption, tuple(column for column in columns if column.metric in present))
        for caption, columns in TABLES[scenario]
    ]


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
    if scenario == "others":
        return others_tables(record, servers)
    ours = next((name for name in OURS_IN.get(scenario, OURS) if servers.get(name, {}).get("median")), None)
    sizes = record["sizes"] | {"cores": record["machine"]["cores"]}
    brackets = f"; in brackets, {SERVERS[ours].label} ÷ it" if ours else ""
    parts = []
    for caption, columns in columns_of(scenario, servers):
        rows = [["server", *(column.header.format(**sizes) for column in columns)]]
        for name, figures in servers.items():
            if any(column.metric in figures["median"] for column in columns):
                label = SERVERS[name].label + (" (FAILED)" if figures["failures"] else "")
                rows.append([label, *(cell(servers, ours, name, column) for column in columns)])
        shown = brackets if any(column.compared for column in columns) else ""
        title = f"{caption.format(**sizes)} (median of {record['alternations']}{shown}):"
        parts.append(f"{title}\n\n{aligned(rows)}")
    notes = [f"- {SERVERS[name].label}: {SERVERS[name].note}." for name in servers if SERVERS[name].note]
    return "\n\n".join([*parts, "\n".join([*notes, *failures_of(servers)])]).strip()


def failures_of(servers: dict[str, Any]) -> list[str]:
    """A line for each run that failed."""
    return [f"- FAILED: {name}: {line}" for name, figures in servers.items() for line in figures["failures"]]


def phase_order(label: str) -> tuple[int, int]:
    """From nothing at all to the highest rate; then the control."""
    if label.isdecimal():
        return 1, int(label)
    return (0, 0) if label == "idle" else (2, 0)


def others_tables(record: dict[str, Any], servers: dict[str, Any]) -> str:
    """For each server a table with a row for each phase."""
    caption = (
        "A node with {others_devices} devices and {others_rate} events a second for its own users, while "
        "another node publishes for other users"
    ).format(**record["sizes"])
    parts = []
    for name, figures in servers.items():
        labels = [key.partition("@")[2] for key in figures["median"] if key.startswith("node_ms@")]
        labels.sort(key=phase_order)
        rows = [["events a second for others", *OTHERS.values()]]
        for label in labels:
            where = NAMED_PHASES.get(label) or f"{int(label):,}"
            rows.append([where, *(number(figures["median"].get(f"{metric}@{label}")) for metric in OTHERS)])
        if labels:
            title = f"{caption} ({SERVERS[name].label}; median of {record['alternations']}):"
            parts.append(f"{title}\n\n{aligned(rows)}")
    return "\n\n".join([*parts, "\n".join(failures_of(servers))]).strip()


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
