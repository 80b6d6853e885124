"""Writes into the pages what is made from the code: settings, commands, metrics, and the examples.

`make reference` runs it. What it writes stands in a page between ``<!-- generated: NAME -->`` and
``<!-- end -->``, so that it can be read in the repository as well as on the site; a test runs it with
``--check``.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click
import trio

from localful_ws.cli import main as program
from localful_ws.clock import Clock
from localful_ws.engine.memory import MemoryEngine
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.metrics import Family, Figure, Gauges, Metrics
from localful_ws.protocol import State
from localful_ws.server.survey.surveyor import figures_of_workers
from localful_ws.settings import OPTIONS, Settings, settings_table

DOCS: Final = Path(__file__).parents[1]
_GENERATED: Final = re.compile(
    r"(?P<begin>^<!-- generated: (?P<name>[\w.-]+) -->\n)(?P<text>.*?)(?P<end>^<!-- end -->$)",
    re.MULTILINE | re.DOTALL,
)
_LANGUAGES: Final = {
    ".py": "python",
    ".mjs": "js",
    ".sh": "sh",
    ".sql": "sql",
    ".html": "html",
    ".toml": "toml",
}


def commands() -> str:
    """All commands with their arguments and options."""
    context = click.Context(program, info_name="localful-ws")
    parts = []
    for name, command in sorted(program.commands.items()):
        parts.append(f"## {name}\n\n{_paragraphs(command.help or '')}\n")
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=name, parent=context)))
        parts.append(f"```text\nlocalful-ws {name} {usage}\n```\n")
        parts.append(_options(command))
    return "\n".join(part for part in parts if part)


def _paragraphs(text: str) -> str:
    """A docstring as click shows it, with names of programs and options as code."""
    whole = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))
    return re.sub(r"(?<![\w`-])--[a-z-]+|(?<![\w`])\{[^}]*\}+", lambda found: f"`{found[0]}`", whole)


def _options(command: click.Command) -> str:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    settings = [option for option in options if _long(option) in OPTIONS]
    own = [option for option in options if option not in settings]
    all_of_them = len(settings) == len(OPTIONS)
    rows = [_row(option) for option in (own if all_of_them else options)]
    table = "\n".join(["| option | |", "|---|---|", *rows]) + "\n"
    if not all_of_them:
        return table
    return f"{table}\nAnd an option for each of the [settings](settings.md).\n"


def _long(option: click.Option) -> str:
    return option.opts[-1].removeprefix("--")


def _row(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or 'TEXT'}"
    text = re.sub(r"\s+", " ", option.help or "").replace("|", "\\|")
    text, default = re.fullmatch(r"(.*?)(?: \[(.*)\])?", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if default and default.isupper():
        default = f"`{default}`"
    if option.required:
        default = "required"
    return f"| `--{_long(option)}{value}` | {text}{f' ({default})' if default else ''} |"


def metrics() -> str:
    """All metrics, of both engines, with workers and without."""
    engines = trio.run(_of_engines)
    states = {state.value: 0 for state in State}
    counts = Metrics(lambda: Gauges(connections=states, engine=engines))
    counts.handshake_refused(503)
    families = [*counts.families(), *figures_of_workers(1, 0, 0)]
    own = [family for family in families if family.name.startswith("localful_ws_")]
    lines = ["| metric | | |", "|---|---|---|", *(_metric(family) for family in own)]
    lines.append("| `process_*` | | memory, CPU time, open files and start of the process |")
    return "\n".join(lines) + "\n"


async def _of_engines() -> list[Figure]:
    settings = Settings(
        engine="redis://localhost", publisher_key="a-key-of-nobody's", jwt_secret=b"x" * 32, max_connections=1
    )
    clock = Clock()
    return [*MemoryEngine(settings, clock).figures(), *RedisEngine(settings, clock).figures()]


def _metric(family: Family) -> str:
    name = family.name + ("_total" if family.kind == "counter" else "")
    shown = name + (f"{{{family.label}}}" if family.label else "")
    return f"| `{shown}` | {family.kind} | {family.text.removesuffix('.')} |"


def http() -> str:
    """The requests of the internal port, out of its OpenAPI document."""
    document = json.loads((DOCS.parent / "spec" / "openapi.json").read_text(encoding="utf-8"))
    lines = ["| request | | publisher key | answers |", "|---|---|---|---|"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            key = "yes" if operation["security"] else "no"
            answers = ", ".join(sorted(operation["responses"]))
            lines.append(f"| `{method.upper()} {path}` | {operation['summary']} | {key} | {answers} |")
    return "\n".join(lines) + "\n"


def example(name: str) -> str:
    """A file of docs/examples/, as a block."""
    path = DOCS / "examples" / name
    return f"```{_LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}```\n"


_MAKERS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_table,
    "commands": commands,
    "metrics": metrics,
    "http": http,
}


def written(text: str) -> str:
    """A page with everything that is generated made anew."""

    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        made = _MAKERS[name]() if name in _MAKERS else example(name)
        return f"{found['begin']}\n{made}\n{found['end']}"

    return _GENERATED.sub(fill, text)


def outdated() -> Iterator[tuple[Path, str]]:
    """The pages that are not what they should be, and what they should be."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        new = written(text)
        if new != text:
            yield path, new


def main() -> None:
    """Write the pages anew, or with ``--check`` say which are old."""
    checking = sys.argv[1:] == ["--check"]
    pages = list(outdated())
    for path, text in pages:
        if not checking:
            path.write_text(text, encoding="utf-8")
        click.echo(f"{path.relative_to(DOCS.parent)} {'is old: make reference' if checking else 'written'}")
    sys.exit(checking and bool(pages))


if __name__ == "__main__":
    main()
