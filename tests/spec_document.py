"""Reads spec/: the fenced blocks, tables and headings of its pages, and its JSON Schemas."""

import json
import re
from pathlib import Path
from typing import Any

from attrs import frozen
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "spec"
SCHEMAS = SPEC / "schemas"

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@frozen
class Block:
    """A fenced block: ```language label key=value."""

    language: str
    label: str
    options: dict[str, str]
    text: str
    line: int

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.label or self.language}:{self.line}"


def page(name: str) -> str:
    """The text of a page of spec/."""
    return (SPEC / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match["info"].partition(" ")
        label, *options = rest.split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(language, label, dict(option.split("=") for option in options), match["text"], line)
        )
    return found


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def headings(text: str) -> list[str]:
    """The headings of a page as they read, without marks."""
    return [match["title"].replace("`", "") for match in _HEADING.finditer(prose(text))]


def anchor(heading: str) -> str:
    """The fragment by which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    return tables(text, heading)[0]


def tables(text: str, heading: str) -> list[list[list[str]]]:
    """The rows of every table between a heading and the next one, without their heads."""
    section = re.split(rf"^#+ {re.escape(heading)}$", prose(text), flags=re.MULTILINE)[1]
    section = _HEADING.split(section)[0]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in match[0].splitlines()[2:]]
        for match in re.finditer(r"(?:^\|.*\n)+", section, re.MULTILINE)
    ]


def schema(name: str) -> dict[str, Any]:
    """A schema by its label: ``device:authenticate`` is spec/schemas/device/authenticate.json."""
    path = SCHEMAS / f"{name.replace(':', '/')}.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def schema_names() -> list[str]:
    """The labels of all schemas."""
    return sorted(
        path.relative_to(SCHEMAS).with_suffix("").as_posix().replace("/", ":")
        for path in SCHEMAS.rglob("*.json")
    )


def validator(name: str) -> Draft202012Validator:
    """What checks a value against a schema."""
    return Draft202012Validator(schema(name))
