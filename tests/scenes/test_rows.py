"""Every row of the protocol has a scene: each table and list whose rows a device or publisher can see."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from localful_ws.conform.scenes import Scene, read_scenes
from localful_ws.protocol import EventName
from tests.spec_document import anchor, blocks, headings, page, table, tables

PROTOCOL = page("protocol.md")
PUBLISH_ANSWERS = tables(PROTOCOL, "Publish")[1]
ERRORS = tables(PROTOCOL, "Messages from the server")[1]
SCENES = read_scenes()
ABOUT = {row for scene in SCENES for row in scene.about}

NO_SCENE = {
    "limits/max-half-open": "thousands of connections: tests/server/test_half_open.py",
    "limits/send-budget": "many devices that don't read: tests/server/test_node_budget.py",
    "limits/send-timeout": "what leaves is the kernel's affair: tests/server/test_node_budget.py",
    "limits/publish-budget": "two bodies at the same moment: tests/server/http/test_app.py",
    "publish/503-busy": "the same",
    "limits/max-internal-connections": "a hundred connections: tests/server/http/test_server.py",
    "limits/publish-timeout": "an engine has to be slow for it: tests/engine/test_memory.py",
    "limits/history-bytes": "64 MiB, and of one engine only: tests/engine/test_history.py",
    "limits/cursor-seconds": "of the engine in Redis only, and a week: tests/engine/redis/",
    "limits/idempotency-events": "of one engine only: tests/engine/test_memory.py",
}
"""Rows that a scene cannot show, why not, and where they are tested."""


def slug(cell: str) -> str:
    return anchor(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell))


def rows_of(heading: str, *columns: int) -> set[str]:
    """The names of the rows of a table: its section, and what stands in these columns."""
    return {
        f"{anchor(heading)}/{'-'.join(slug(row[column]) for column in columns if row[column])}"
        for row in (PUBLISH_ANSWERS if heading == "Publish" else table(PROTOCOL, heading))
    }


def list_rows(heading: str, pattern: str, prefix: str) -> set[str]:
    """The names of the items of a list: its section, and their number."""
    match = re.search(rf"^#+ {heading}$.*?{pattern}", PROTOCOL, re.DOTALL | re.MULTILINE)
    assert match is not None
    items = re.findall(r"^(?:- |\d\. )", match[1], re.MULTILINE)
    return {f"{anchor(heading)}/{prefix}{number}" for number in range(1, len(items) + 1)}


ROWS = (
    rows_of("Refused handshakes", 0, 1)
    | {f"events/{name.value}" for name in EventName}
    | list_rows("Who gets an event", r"all of these hold:\n(.*?)\n\nIt gets", "")
    | list_rows("What the server does", r"`resumed` is `false` when\n(.*?)\n\nWhich", "false-")
    | rows_of("Authentication", 0)
    | rows_of("Renewal", 0)
    | rows_of("Close codes", 0)
    | rows_of("Limits", 0)
    | rows_of("Publish", 0, 1)
)


def test_rows_are_found() -> None:
    assert {"refused-handshakes/503-draining", "who-gets-an-event/3", "what-the-server-does/false-5"} <= ROWS
    assert {"authentication/none-in-3-s", "close-codes/4413", "limits/max-vaults", "publish/202"} <= ROWS
    assert len(ROWS) > 85


SECTIONS_WITHOUT_A_SCENE = {
    *("terms", "sequences", "publishing", "connection-life"),
    # About the engine in Redis: tests/engine/redis/.
    "publishing-without-http",
    # Has moments of the server's own clock in it, which no scene knows: tests/server/http/test_users.py.
    "devices-of-a-user",
}


def test_every_section_has_a_scene() -> None:
    anchors = {anchor(title) for title in headings(PROTOCOL)[1:]}
    about = {row.partition("/")[0] for row in ABOUT}
    assert anchors - about == SECTIONS_WITHOUT_A_SCENE


def test_rows_without_a_scene_are_still_there() -> None:
    assert set(NO_SCENE) <= ROWS
    assert ABOUT.isdisjoint(NO_SCENE)


@pytest.mark.parametrize("row", sorted(ROWS - set(NO_SCENE)))
def test_row_has_a_scene(row: str) -> None:
    assert row in ABOUT


@pytest.mark.parametrize("row", sorted(row for row in ABOUT if "/" in row))
def test_scenes_are_about_rows_that_are_there(row: str) -> None:
    # Of HTTP errors not all can be shown.
    assert row in ROWS or row.startswith("http-errors/")


# --- what a scene shows without saying so ---


def values(scenes: list[Scene], *actions: str) -> Iterator[Any]:
    return (step.value for scene in scenes for step in scene.steps if step.action in actions)


def test_every_close_code_is_seen() -> None:
    seen = {str(value["code"]) for value in values(SCENES, "closed")}
    assert seen == {row[0] for row in table(PROTOCOL, "Close codes")}
    for scene in SCENES:
        codes = {f"close-codes/{value['code']}" for value in values([scene], "closed")}
        assert {row for row in scene.about if row.startswith("close-codes/")} <= codes, scene.name


def test_every_reason_of_a_close_is_the_one_in_the_table() -> None:
    reasons = {row[0]: row[1] for row in table(PROTOCOL, "Close codes")}
    for value in values(SCENES, "closed"):
        assert value.get("reason", reasons[str(value["code"])]) == reasons[str(value["code"])]


def test_every_event_and_message_is_received() -> None:
    received = {value["event"] for value in values(SCENES, "receives")}
    assert received == {name.value for name in EventName} | {
        *("authenticated", "subscribed", "reauthenticate", "error")
    }


def test_every_refused_handshake_is_seen() -> None:
    seen = {(str(value["status"]), f"`{value['identifier']}`") for value in values(SCENES, "refused")}
    assert seen == {(status, word) for status, word, _ in table(PROTOCOL, "Refused handshakes")}


def errors(scene: Scene) -> Iterator[tuple[str, str]]:
    """The errors of a scene: code, and the close code that follows it or ``open``."""
    for number, step in enumerate(scene.steps):
        if step.action == "receives" and step.value["event"] == "error":
            after = next((later for later in scene.steps[number + 1 :] if later.who == step.who), None)
            closed = after is not None and after.action == "closed"
            yield step.value["code"], f"close {after.value['code']}" if after and closed else "open"


def test_every_error_is_received_and_has_its_consequence() -> None:
    listed = {(code.strip("`"), then) for code, _, then in ERRORS}
    assert len(listed) == 8
    assert {error for scene in SCENES for error in errors(scene)} == listed


def test_every_answer_to_a_publish_is_given() -> None:
    answers = {
        (str(step.answer["status"]), step.answer.get("identifier", ""))
        for scene in SCENES
        for step in scene.steps
        if step.answer is not None and step.action in ("publishes", "disconnects", "requests")
    }
    listed = {(row[0], row[1].strip("`")) for row in PUBLISH_ANSWERS if row[0] != "202"}
    listed -= {("503", "busy")}  # see NO_SCENE
    assert listed <= answers
    assert {("404", "not-found"), ("405", "method-not-allowed"), ("503", "too-many-revocations")} <= answers


def refused(label: str) -> list[str]:
    return [
        line
        for block in blocks(PROTOCOL)
        if (block.language, block.label) == ("jsonl", label) and block.options.get("state") != "awaiting-auth"
        for line in block.text.splitlines()
    ]


@pytest.mark.parametrize("line", refused("device:refused"))
def test_every_malformed_message_is_sent(line: str) -> None:
    assert line in list(values(SCENES, "sends-text"))
