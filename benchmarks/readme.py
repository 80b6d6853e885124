"""Keeps the README's tables and plots what the last run said: nothing is copied by hand."""

import re
from pathlib import Path
from typing import Any

import click

from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import AT, ENGINE_SERVERS
from benchmarks.tables import scenario_tables, setting_line, target_table

BESIDE_PEERS = frozenset({"users", "latency"})
"""Scenarios in which engines are measured, and other servers as well."""
README = Path(__file__).resolve().parent / "README.md"
PLOTS = README.parent / "results"


def update(record: dict[str, Any]) -> None:
    """Write the tables between the README's markers and draw the plots."""
    text = README.read_text()
    sections = {name: scenario_tables(record, name) for name in record["scenarios"]}
    # What is measured apart has its setting with it, and leaves that of the others alone.
    apart = {
        name: f"{setting_line(record)}\n\n{sections.pop(name)}"
        for name in [*sections]
        if SCENARIOS[name].is_apart
    }
    measured = set().union(*(record["scenarios"][name] for name in sections))
    peers = {name for name in measured if name not in ENGINE_SERVERS and AT not in name}
    if peers:
        sections["setting"] = setting_line(record)
        sections["targets"] = target_table(record)
    elif sections:
        # Of engines and workers only: what stands beside other servers stays.
        sections = {
            f"{name}-engines" if name in BESIDE_PEERS else name: told for name, told in sections.items()
        }
        sections["setting-engines"] = setting_line(record)
    for name, section in (sections | apart).items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        text = pattern.sub(lambda _match, new=f"{begin}\n{section}\n{end}": new, text)  # type: ignore[misc]
    README.write_text(text)
    if not peers:
        return
    try:
        from benchmarks.plots import draw  # noqa: PLC0415 - an extra that a run can do without
    except ImportError:
        click.echo("no plots: matplotlib is missing; install with: pip install -e '.[bench]'", err=True)
        return
    for path in draw(record, PLOTS):
        click.echo(f"drawn: {path.relative_to(README.parent.parent)}", err=True)
