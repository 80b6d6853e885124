"""Logs: one event a line, on a terminal for people and elsewhere as JSON, and never a token, secret or key.

The server logs with structlog; what libraries say with `logging` takes the same way out. `configure_logging`
may be called again: what it set up before is replaced.
"""

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"

_NOISY: Final = ("trio-websocket", "httpx", "httpcore")
"""Libraries that tell more than an operator wants to know."""

_SECRET_KEY: Final = re.compile(r"(token|secret|password|authorization|(^|[_-])key)$", re.IGNORECASE)
# The header of a JWT is a JSON object, and base64 makes "eyJ" of how one begins.
_JWT: Final = re.compile(r"eyJ[\w-]+(\.[\w-]*)+", re.ASCII)
# As in the header Authorization, and as in the subprotocol localful.bearer.<token>.
_BEARER: Final = re.compile(r"\b(bearer[\s.:=]+)[^\s,;\"']+", re.IGNORECASE)
# Up to the last @: an earlier one is part of a password.
_URL_PASSWORD: Final = re.compile(r"(://)[^/\s\"'<>]+@")
_URL_OPTION: Final = re.compile(r"([?&]\w*password=)[^\s\"'<>&]+", re.IGNORECASE)

_DEEPEST: Final = 8


class _Handler(logging.StreamHandler[TextIO]):
    """Our handler, to be told from those of others when it is replaced."""


def configure_logging(
    log_format: str = "auto", log_level: str = "info", stream: TextIO | None = None
) -> None:
    """Set up what is logged, how and where to.

    Args:
        log_format: ``console``, ``json``, or ``auto`` for console on a terminal and JSON elsewhere.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        stream: Where to write; None is standard error.
    """
    out = sys.stderr if stream is None else stream
    level = logging.getLevelNamesMapping()[log_level.upper()]
    on_console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    cleaning: list[Processor] = [
        structlog.processors.StackInfoRenderer(),
        # Before redaction, so that the text of exceptions goes through it.
        structlog.processors.format_exc_info,
        redact_secrets,
    ]
    rendering: list[Processor] = [_put_first, structlog.processors.JSONRenderer(ensure_ascii=False)]
    if on_console:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            *cleaning,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A logger that is kept would go on writing to where the first configuration said.
        cache_logger_on_first_use=False,
    )
    handler = _Handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # For what libraries log. Ours is clean before it reaches any handler.
                *cleaning,
                *rendering,
            ],
        )
    )
    root = logging.getLogger()
    for earlier in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _put_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Begin a line of JSON with what a reader looks for first."""
    return {key: event[key] for key in ("timestamp", "level", "event") if key in event} | dict(event)


def redact(text: str) -> str:
    """Take what looks like a token or a password out of a text."""
    text = _JWT.sub(REDACTED, text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    text = _URL_PASSWORD.sub(rf"\1{REDACTED}@", text)
    return _URL_OPTION.sub(rf"\1{REDACTED}", text)


def redact_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Take secrets out of a log event: by the name of the key, and by what a value looks like.

    A structlog processor. What comes out holds plain values only, so that nothing is left for a renderer to
    write out that has not been looked at.
    """
    return {redact(key): _redact_value(key, value, 0) for key, value in event.items()}


def _redact_value(key: object, value: object, depth: int) -> Any:
    if isinstance(key, str) and _SECRET_KEY.search(key):
        return None if value is None else REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _redact_collection(value, depth + 1)
    try:
        text = repr(value)
    except Exception:  # a log line must not fail over what is in it
        text = f"<{type(value).__name__}>"
    return redact(text)


def _redact_collection(collection: Mapping[Any, Any] | Iterable[Any], depth: int) -> Any:
    if depth > _DEEPEST:
        return "…"
    if isinstance(collection, Mapping):
        return {redact(str(key)): _redact_value(key, value, depth) for key, value in collection.items()}
    return [_redact_value(None, value, depth) for value in collection]
