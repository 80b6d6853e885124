"""Text from the server to values, and requests to text (spec/protocol.md, "Messages")."""

import json
from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from localful_ws.client.errors import ServerMessageError
from localful_ws.protocol import (
    MAX_ID,
    Authenticate,
    Authenticated,
    DepthError,
    Error,
    Reauthenticate,
    Subscribe,
    Subscribed,
    decode_json,
)


@frozen
class ReceivedEvent:
    """One change that the server told of.

    Attributes:
        event: What happened: one of the eleven names (`localful_ws.protocol.EventName`), or one that this
            version of the client does not know.
        vault: The vault it happened in, where it has one.
        data: What the publisher gave, as parsed JSON. A number that no float can hold, or of more than 640
            digits, is infinite.
        cursor: Its position in the user's stream, where the server keeps history. Opaque.
    """

    event: str
    vault: str | None = None
    data: Any = field(default=None, repr=False)
    cursor: str | None = None


ReceivedMessage = Authenticated | Subscribed | Reauthenticate | Error | ReceivedEvent


def decode_server_message(text: str) -> ReceivedMessage | None:
    """Read what the server sent.

    Unknown extra keys are ignored. An unknown event with ``data`` is handed over like any other; an unknown
    message without is one that a later version of the protocol has, and comes to None.

    Raises:
        ServerMessageError: If it is no message of this protocol.
    """
    try:
        raw = decode_json(text)
    except DepthError as error:
        raise ServerMessageError(f"The server sent a message that {error}.") from None
    except ValueError:
        raise ServerMessageError("The server sent what is not JSON.") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("event"), str):
        raise ServerMessageError("The server sent a message without an event.")
    name: str = raw["event"]
    try:
        match name:
            case Authenticated.event:
                return Authenticated(
                    user=_text(raw, "user"),
                    group=_text(raw, "group"),
                    expires_at=_number(raw, "expiresAt"),
                    vaults=_vaults(raw),
                    cursor=_optional_cursor(raw),
                    resumed=_optional_flag(raw, "resumed"),
                    id=_optional_text(raw, "id"),
                )
            case Subscribed.event:
                return Subscribed(vaults=_vaults(raw), id=_optional_text(raw, "id"))
            case Reauthenticate.event:
                return Reauthenticate(expires_at=_number(raw, "expiresAt"))
            case Error.event:
                return Error(
                    code=_text(raw, "code"), message=_text(raw, "message"), id=_optional_text(raw, "id")
                )
            case _ if "data" in raw:
                return ReceivedEvent(
                    event=name,
                    vault=_optional_text(raw, "vault"),
                    data=raw["data"],
                    cursor=_optional_cursor(raw),
                )
            case _:
                return None
    except KeyError as error:
        raise ServerMessageError(f"The server sent {name} without a proper {error.args[0]}.") from None


def encode_authenticate(
    token: str, vaults: Sequence[str] | None, message_id: str, since: str | None = None
) -> str:
    """Write an ``authenticate``.

    Args:
        token: The access token.
        vaults: The subscription wanted; None leaves it as it is.
        message_id: Comes back with the answer.
        since: The cursor to resume from; None begins at the present.
    """
    message: dict[str, Any] = {"event": Authenticate.event, "token": token}
    if vaults is not None:
        message["vaults"] = list(vaults)
    if since is not None:
        message["since"] = since
    return json.dumps(message | {"id": message_id})


def encode_subscribe(vaults: Sequence[str], message_id: str) -> str:
    """Write a ``subscribe``."""
    return json.dumps({"event": Subscribe.event, "vaults": list(vaults), "id": message_id})


def is_cursor(value: object) -> bool:
    """Whether a value can be a cursor: a string of 1 to 128 characters."""
    return isinstance(value, str) and 1 <= len(value) <= MAX_ID


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str):
        raise KeyError(key)
    return value


def _optional_text(raw: dict[str, Any], key: str) -> str | None:
    return _text(raw, key) if key in raw else None


def _optional_cursor(raw: dict[str, Any]) -> str | None:
    cursor = _optional_text(raw, "cursor")
    if cursor is not None and not is_cursor(cursor):
        raise KeyError("cursor")
    return cursor


def _optional_flag(raw: dict[str, Any], key: str) -> bool | None:
    value = raw.get(key)
    if key in raw and not isinstance(value, bool):
        raise KeyError(key)
    return value


def _number(raw: dict[str, Any], key: str) -> float:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise KeyError(key)
    return value


def _vaults(raw: dict[str, Any]) -> tuple[str, ...]:
    value = raw.get("vaults")
    if not isinstance(value, list) or not all(isinstance(vault, str) for vault in value):
        raise KeyError("vaults")
    return tuple(value)
