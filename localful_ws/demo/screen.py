"""What the demo shows: in colour on a terminal, plain elsewhere and with ``NO_COLOR``; 80 columns suffice."""

import json
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import click

from localful_ws.demo.story import ACTORS, Change, Fate, Scene

_WIDTH = 78
_Styled = tuple[str, dict[str, Any]]
# Columns of the table: the name of the event, the vault, and one for each device.
_INDENT, _EVENT, _VAULT, _CELL = 3, 21, 7, 17


def title(text: str) -> None:
    """Begin a part of the demo."""
    _echo()
    _echo(click.style(text, bold=True))


def line(text: str = "") -> None:
    """Show a line, indented."""
    _echo(f"  {text}" if text else "")


def fact(name: str, *values: str) -> None:
    """Show what something is, in columns."""
    _echo(f"  {name:<14}{'  '.join(values)}".rstrip())


def aside(text: str) -> None:
    """Show a paragraph that explains."""
    for part in textwrap.wrap(text, _WIDTH - 2):
        line(_dim(part))


def json_lines(start: str, value: Any) -> None:
    """Show JSON behind a word or two, in as many lines as it takes."""
    lines = textwrap.wrap(json.dumps(value), _WIDTH - 4 - len(start), break_on_hyphens=False)
    for number, part in enumerate(lines):
        line(f"{start if number == 0 else ' ' * len(start)}  {click.style(part, fg='cyan')}")


def command(text: str) -> None:
    """Show a command to copy: nothing before it but spaces."""
    _echo(f"    {click.style(text, fg='cyan')}")


def good(text: str) -> None:
    """Show a success."""
    _echo()
    _echo(click.style(f"{_mark(good=True)} {text}", fg="green", bold=True))


def heading() -> None:
    """Show the head of the table of events and devices."""
    _table_line("", "", [(actor.name, {"bold": True}) for actor in ACTORS])


def scene(told: Scene) -> None:
    """Show whose changes the next rows are."""
    line(_dim(told.title))


def row(change: Change, outcomes: Sequence[bool]) -> None:
    """Show one change and what became of it at each device.

    Args:
        change: The change.
        outcomes: For each device, whether it got the event.
    """
    cells = [_cell(fate, got=got) for fate, got in zip(change.fates, outcomes, strict=True)]
    _table_line(change.event.value, change.vault or "", cells)


def _cell(fate: Fate, *, got: bool) -> _Styled:
    wanted = fate is Fate.RECEIVED
    if got != wanted:
        return f"{_mark(good=False)} {'received' if got else 'missing'}", {"fg": "red", "bold": True}
    if wanted:
        return f"{_mark(good=True)} {fate.value}", {"fg": "green"}
    return f"- {fate.value}", {"dim": True}


def _table_line(event: str, vault: str, cells: Sequence[_Styled]) -> None:
    start = f"{'':<{_INDENT}}{event:<{_EVENT}}{vault:<{_VAULT}}"
    # The padding stands before a cell, so that no line ends with blanks.
    padded = "".join(
        " " * (_CELL - len(cells[number - 1][0]) if number else 0) + click.style(text, **style)
        for number, (text, style) in enumerate(cells)
    )
    _echo(start + padded)


def _dim(text: str) -> str:
    return click.style(text, dim=True)


def _mark(*, good: bool) -> str:
    mark, plain = ("✓", "+") if good else ("✗", "!")
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return plain
    return mark


def _echo(text: str = "") -> None:
    # None: click leaves colours away where the output is no terminal.
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
