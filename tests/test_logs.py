"""Logs: where they go, what they look like, and what is never in them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from localful_ws.logs import configure_logging, redact, redact_secrets
from localful_ws.tokens import mint_token

TOKEN = mint_token(b"s" * 32, "ada", "phone", 60, 0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def unchanged_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_elsewhere_than_on_a_terminal_a_line_is_json() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger("a.module").info("listening", port=0, host="ü")
    assert stream.getvalue().startswith('{"timestamp": "')
    (line,) = logged(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "info", "event": "listening", "logger": "a.module", "port": 0, "host": "ü"}


def test_on_a_terminal_it_is_for_people() -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    structlog.get_logger().warning("listening", port=1)
    assert "listening" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
    with pytest.raises(ValueError, match="Expecting value"):
        logged(stream)


@pytest.mark.parametrize(("log_format", "stream"), [("json", Terminal()), ("console", io.StringIO())])
def test_the_format_can_be_chosen(log_format: str, stream: io.StringIO) -> None:
    configure_logging(log_format, stream=stream)
    structlog.get_logger().info("listening")
    assert stream.getvalue().startswith("{") == (log_format == "json")
    assert "\x1b[" not in stream.getvalue()


@pytest.mark.parametrize(
    ("log_level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_can_be_chosen(log_level: str, heard: list[str]) -> None:
    stream = io.StringIO()
    configure_logging("json", log_level, stream)
    for log in (structlog.get_logger("ours"), logging.getLogger("a.library")):
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)(level)
    assert [line["level"] for line in logged(stream)] == heard + heard


@pytest.mark.parametrize("name", ["trio-websocket", "httpx", "httpcore.http11"])
def test_talkative_libraries_are_heard_from_warnings_on(name: str) -> None:
    stream = io.StringIO()
    configure_logging("json", "debug", stream)
    logging.getLogger(name).info("chatter about %s", "nothing")
    logging.getLogger(name).warning("something about %s", "something")
    (line,) = logged(stream)
    assert (line["event"], line["level"], line["logger"]) == ("something about something", "warning", name)


def test_configuring_again_replaces_what_was_before() -> None:
    first, second = io.StringIO(), io.StringIO()
    log = structlog.get_logger()
    configure_logging("json", "info", first)
    log.info("one")
    configure_logging("json", "error", second)
    log.info("two")
    log.error("three")
    logging.getLogger("a.library").error("four")
    assert [line["event"] for line in logged(first)] == ["one"]
    assert [line["event"] for line in logged(second)] == ["three", "four"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_token_leaves_by_any_way(log_format: str) -> None:
    stream = io.StringIO()
    configure_logging(log_format, "debug", stream)
    log = structlog.get_logger()

    class Holder:
        def __repr__(self) -> str:
            return f"Holder({TOKEN})"

    log.info(TOKEN, value=TOKEN, raw=TOKEN.encode(), holder=Holder())
    log.info("nested", headers=[("authorization", f"Bearer {TOKEN}")], claims={"inner": {"x": (TOKEN,)}})
    log.info("key", **{TOKEN: 1})
    log.bind(note=TOKEN).info("bound")
    logging.getLogger("a.library").warning("token %s", TOKEN)
    try:
        try:
            raise ValueError(TOKEN)
        except ValueError as error:
            raise ExceptionGroup("several", [RuntimeError(f"bad {TOKEN}"), error]) from error
    except ExceptionGroup:
        log.exception("failed")
        logging.getLogger("a.library").exception("failed")
    written = stream.getvalue()
    assert "failed" in written
    assert "RuntimeError: bad [redacted]" in written
    head, payload, signature = TOKEN.split(".")
    assert not [part for part in (head, payload, signature) if part in written]


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "secret",
        "key",
        "authorization",
        "Authorization",
        "publisher_key",
        "jwt-secret",
        "accessToken",
        "password",
    ],
)
def test_what_is_called_a_secret_is_one(name: str) -> None:
    event = redact_secrets(None, "info", {name: "opensesame", "inner": {name: ["opensesame"]}})
    assert event == {name: "[redacted]", "inner": {name: "[redacted]"}}


@pytest.mark.parametrize("name", ["monkey", "tokens", "key_id", "turkey"])
def test_what_only_sounds_like_one_is_none(name: str) -> None:
    assert redact_secrets(None, "info", {name: 5}) == {name: 5}


def test_a_secret_that_is_not_there_stays_away() -> None:
    assert redact_secrets(None, "info", {"token": None}) == {"token": None}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (TOKEN, "[redacted]"),
        (f"a {TOKEN}, b", "a [redacted], b"),
        (TOKEN.rpartition(".")[0], "[redacted]"),
        ("Authorization: Bearer opaque-thing", "Authorization: Bearer [redacted]"),
        ("authorization: bearer opaque", "authorization: bearer [redacted]"),
        ("localful.v1, localful.bearer.opaque", "localful.v1, localful.bearer.[redacted]"),
        ("redis://user:pass@cache:6379/0", "redis://[redacted]@cache:6379/0"),
        ("redis://user:pa@s@cache:6379/0", "redis://[redacted]@cache:6379/0"),
        (
            "redis+sentinel://a,b/main?sentinel_password=p+w&db=1",
            "redis+sentinel://a,b/main?sentinel_password=[redacted]&db=1",
        ),
        ("{'url': 'redis://cache', 'by': 'a@b'}", "{'url': 'redis://cache', 'by': 'a@b'}"),
        ("https://api.example/jwks@2", "https://api.example/jwks@2"),
        ("eyJ without dots", "eyJ without dots"),
        ("nothing special", "nothing special"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, left: str) -> None:
    assert redact(text) == left


def test_odd_values_do_not_stop_a_line() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    deep: list[Any] = ["bottom"]
    for _ in range(50):
        deep = [deep]
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    structlog.get_logger().info("odd", odd=Odd(), deep=deep, nothing=None, yes=True, keys={1: {"two"}})
    (line,) = logged(stream)
    assert line["odd"] == "<Odd>"
    assert "bottom" not in str(line["deep"])
    assert (line["nothing"], line["yes"], line["keys"]) == (None, True, {"1": ["two"]})
