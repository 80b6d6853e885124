"""Answers of the internal HTTP port, and who may have them (spec/protocol.md, "Publishing")."""

import hmac
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog
from starlette.responses import Response

_log = structlog.get_logger(__name__)

_JSON: Final = "application/json"
_RETRY_AFTER: Final = 5


def json_answer(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(content), status, headers, _JSON)


def error_answer(
    status: int,
    identifier: str,
    message: str,
    context: Mapping[str, int | str] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with an error in Localful's shape."""
    body = {"statusCode": status, "identifier": identifier, "message": message, "context": context or {}}
    return json_answer(status, body, headers)


def unavailable_answer(identifier: str, message: str, retry_after: int = _RETRY_AFTER) -> Response:
    """Answer that something can't be done now."""
    return error_answer(503, identifier, message, headers={"Retry-After": str(retry_after)})


def refuse_without_key(headers: Mapping[bytes, bytes], key: bytes) -> Response | None:
    """Answer a request that does not show the publisher key; None if it does."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), key):
        return None
    _log.warning("a request without the publisher key was refused")
    return error_answer(
        401,
        "unauthorized",
        "Send the publisher key, as Authorization: Bearer <key>.",
        headers={"WWW-Authenticate": "Bearer"},
    )
