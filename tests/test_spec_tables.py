"""The diagram, the tables, the links and the traceability of spec/ against the code."""

import ast
import re
from collections.abc import Iterator

import attrs
import pytest

from localful_ws.conform.scenes import read_scenes
from localful_ws.protocol import (
    BEARER_SUBPROTOCOL,
    SUBPROTOCOL,
    CloseCode,
    EventKind,
    EventName,
    HandshakeError,
    HandshakeRules,
    Rate,
    judge_handshake,
    state_diagram,
)
from localful_ws.settings import Settings
from localful_ws.settings.setting import setting_of
from tests.spec_document import ROOT, SPEC, anchor, blocks, headings, page, prose, schema, table

PROTOCOL = page("protocol.md")
REFERENCE = page("websocket-reference.md")
TRACEABILITY = page("traceability.md")
PAGES = sorted(path.name for path in SPEC.glob("*.md"))
LIMITS = {row[0].strip("`"): row[1] for row in table(PROTOCOL, "Limits")}


def test_state_diagram_is_drawn_from_the_table() -> None:
    marked = re.search(
        r"<!-- state diagram: .*? -->\n(.*?)\n<!-- end of state diagram -->", PROTOCOL, re.DOTALL
    )
    assert marked is not None
    assert marked[1] == f"```mermaid\n{state_diagram()}\n```"


def test_close_codes_are_those_of_the_code() -> None:
    rows = [(code, reason, reconnect) for code, reason, _, reconnect in table(PROTOCOL, "Close codes")]
    assert rows == [(str(code.value), code.reason, code.reconnect.value) for code in CloseCode]


def test_events_are_those_of_the_code() -> None:
    rows = [(event, kind, vault) for event, kind, vault, _ in table(PROTOCOL, "Events")]
    assert rows == [
        (f"`{name.value}`", name.kind.value, "no" if name.kind is EventKind.USER else "yes")
        for name in EventName
    ]


@pytest.mark.parametrize(
    ("heading", "prefix"), [("Messages from the device", "device:"), ("Messages from the server", "server:")]
)
def test_message_tables_are_those_of_the_schemas(heading: str, prefix: str) -> None:
    described: dict[str, dict[str, bool]] = {}
    event = ""
    for first, key, presence, *_ in table(PROTOCOL, heading):
        if "[events]" in first:
            break
        event = first.strip("`") or event
        described.setdefault(event, {})[key.strip("`")] = presence in ("required", "always")
    assert described
    for event, keys in described.items():
        wanted = schema(prefix + event)
        assert keys == {key: key in wanted["required"] for key in wanted["properties"] if key != "event"}


def test_error_codes_are_those_of_the_schema() -> None:
    section = PROTOCOL.split("The codes of an `error`.")[1]
    codes = re.findall(r"^\| `([a-z-]+)` \|", section.split("\n## ")[0], re.MULTILINE)
    assert set(codes) == set(schema("server:error")["properties"]["code"]["enum"])


@pytest.mark.parametrize(("name", "default"), LIMITS.items())
def test_limits_are_those_of_the_settings(name: str, default: str) -> None:
    setting = attrs.fields_dict(Settings)[name.replace("-", "_")]
    if unset := setting_of(setting).if_unset:
        assert default == unset
        return
    described = re.match(r"(?P<number>\d+)(?P<rate>/\d+)?(?: (?P<unit>MiB))?", default)
    assert described is not None
    number = int(described["number"])
    if described["rate"]:
        assert setting.default == Rate(number, float(described["rate"].strip("/")))
    else:
        assert setting.default == number * (2**20 if described["unit"] else 1)


TOKEN = f"{BEARER_SUBPROTOCOL}t"


@pytest.mark.parametrize(
    ("target", "headers", "subprotocols"),
    [
        ("/other", (), ()),
        ("/v1/sync", ((b"origin", b"https://evil.example"),), ()),
        ("/v1/sync", (), (TOKEN,)),
        ("/v1/sync", ((b"authorization", b"Basic abc"),), (SUBPROTOCOL,)),
    ],
)
def test_refused_handshakes_are_in_the_table(
    target: str, headers: tuple[tuple[bytes, bytes], ...], subprotocols: tuple[str, ...]
) -> None:
    rules = HandshakeRules(allowed_origins=frozenset({"https://app.example"}))
    with pytest.raises(HandshakeError) as caught:
        judge_handshake(rules, target, headers, subprotocols)
    refusal = caught.value
    described = [(status, word) for status, word, _ in table(PROTOCOL, "Refused handshakes")]
    assert (str(refusal.status), f"`{refusal.identifier}`") in described


# --- references ---


def links(text: str) -> Iterator[tuple[str, str]]:
    for target in re.findall(r"\]\(([^)]+)\)", prose(text)):
        path, _, fragment = target.partition("#")
        yield path, fragment


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_spec_lead_somewhere(name: str) -> None:
    for path, fragment in links(page(name)):
        if path.startswith("https://"):
            continue
        target = SPEC / (path or name)
        assert target.exists(), path
        if fragment:
            assert fragment in [anchor(title) for title in headings(target.read_text(encoding="utf-8"))]


def test_sections_that_the_code_names_exist() -> None:
    named = {
        section
        for source in (ROOT / "localful_ws").rglob("*.py")
        for section in re.findall(
            r'spec/protocol\.md,\s+"([^"]+)"', " ".join(source.read_text(encoding="utf-8").split())
        )
    }
    assert named
    assert named <= set(headings(PROTOCOL))


# --- traceability ---


def plain(text: str) -> str:
    """Text without Markdown's marks, on one line."""
    return " ".join(re.sub(r"[*`|\\]", "", text).split())


def statements(text: str) -> list[str]:
    """Everything the customer's text says: its sentences, list items and examples, in order."""
    examples = [plain(block.text) for block in blocks(text)]
    found: list[str] = []
    for paragraph in re.split(
        r"\n{2,}|\n(?=- )", re.sub(r"^```.*?^```$", "\0", text, flags=re.DOTALL | re.MULTILINE)
    ):
        if paragraph.strip() == "\0":
            found.append(examples.pop(0))
        elif not paragraph.startswith("#") or "\n" in paragraph:
            body = re.sub(r"^#.*\n?", "", paragraph, flags=re.MULTILINE)
            sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z])", plain(body.removeprefix("- ")))
            found += [sentence for sentence in sentences if sentence]
    return found


ROWS = table(TRACEABILITY, "Sentence by sentence")


def test_statements_are_read_from_the_reference() -> None:
    said = statements(REFERENCE)
    # Nothing but headings is left when all that was found is taken away.
    rest = plain(re.sub(r"^```\w*$", "", REFERENCE, flags=re.MULTILINE))
    for statement in said:
        assert statement in rest
        rest = rest.replace(statement, "", 1)
    titles = [line for line in REFERENCE.splitlines() if line.startswith("#")]
    assert [word for word in rest.split() if word != "-"] == " ".join(titles).split()


def test_every_statement_of_the_reference_is_traced() -> None:
    assert [plain(row[1]) for row in ROWS] == statements(REFERENCE)
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, len(ROWS) + 1)]


def defined_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"statement-{row[0]}")
def test_what_a_statement_is_traced_to_exists(row: list[str]) -> None:
    _, _, where, tests = row
    assert list(links(where)), "a section of the spec is named"
    named = re.findall(r"`(\w[\w/]*\.py)::(\w+)(?:\[([\w-]+)\])?`", tests)
    assert named, "a test is named"
    scenes = {scene.name for scene in read_scenes()}
    for path, function, parameter in named:
        assert function in defined_in(f"tests/{path}")
        assert not parameter or parameter in scenes
