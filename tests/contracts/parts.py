"""What both documents are made of: the schemas, and the tables and examples of spec/protocol.md."""

import json
import re
from typing import Any

from tests.spec_document import SPEC, blocks, page, schema, tables

OPENAPI = SPEC / "openapi.json"
ASYNCAPI = SPEC / "asyncapi.json"
PROTOCOL = page("protocol.md")
LICENSE = {"name": "MIT", "identifier": "MIT"}

Json = dict[str, Any]


def written(document: Json) -> str:
    """A document as the text of its file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def component_name(label: str) -> str:
    """``publish:request`` is the component ``publishRequest``."""
    first, *rest = re.split(r"[:-]", label)
    return first + "".join(word.capitalize() for word in rest)


def component_schemas(*labels: str) -> Json:
    """The schemas of spec/schemas as components; what they define for themselves becomes a component too."""
    components: Json = {}
    for label in labels:
        described = schema(label)
        del described["$schema"]
        name = component_name(label)
        # A reference begins at the root of the document, which is no longer the schema.
        moved = {key: f"{name}.{key}" for key in described.get("$defs", {})}
        components |= {moved[key]: _rebase(value, moved) for key, value in described.pop("$defs", {}).items()}
        components[name] = _rebase(described, moved)
    return dict(sorted(components.items()))


def _rebase(value: Any, moved: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: f"#/components/schemas/{moved[inner.removeprefix('#/$defs/')]}"
            if key == "$ref"
            else _rebase(inner, moved)
            for key, inner in value.items()
        }
    return [_rebase(inner, moved) for inner in value] if isinstance(value, list) else value


def examples(label: str) -> list[Json]:
    """The examples of spec/protocol.md for a schema."""
    return [
        json.loads(block.text)
        for block in blocks(PROTOCOL)
        if block.language == "json" and block.label == label
    ]


def errors_in(heading: str) -> dict[tuple[int, str], str]:
    """The errors that the tables under a heading list: status and identifier, and when."""
    return {
        (int(status), identifier.strip("`")): unlinked(when)
        for rows in tables(PROTOCOL, heading)
        for status, identifier, when, *_ in rows
        if status.isdigit() and identifier
    }


def unlinked(text: str) -> str:
    """Markdown without its links, which lead nowhere from another file."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
