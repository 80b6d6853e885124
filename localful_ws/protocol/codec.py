"""Text to device messages and server messages to text (spec/protocol.md, "Messages").

`decode_json` parses and one cattrs converter structures. cattrs alone would coerce (5 to "5"), so each key
has a hook that looks at the type first. Every failure leaves as `MessageError`.
"""

import json
from typing import Any

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from localful_ws.protocol.errors import MessageError
from localful_ws.protocol.json_text import MAX_ID, DepthError, decode_json, is_text
from localful_ws.protocol.messages import (
    Authenticate,
    Authenticated,
    DeviceMessage,
    Error,
    Reauthenticate,
    ServerMessage,
    Subscribe,
    Subscribed,
)


def decode_device_message(text: str) -> DeviceMessage:
    """Read what a device sent.

    Args:
        text: One text message. An object with ``vaults`` and no ``event`` is a ``subscribe``; unknown extra
            keys are ignored.

    Returns:
        The message. Duplicate vaults have collapsed; the order is the device's.

    Raises:
        MessageError: If it is not JSON, nested too deeply, not an object, an unknown event, or a key is
            missing or of a wrong type.
    """
    try:
        raw = decode_json(text)
    except DepthError as error:
        raise MessageError(f"The message {error}.") from None
    except ValueError as error:
        raise MessageError(f"The message is not JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise MessageError("The message must be a JSON object with an event key.")
    event = raw.get("event")
    if event is None and "event" not in raw and "vaults" in raw:
        event = Subscribe.event
    message_type = _DEVICE_MESSAGES.get(event) if isinstance(event, str) else None
    if message_type is None:
        known = " or ".join(_DEVICE_MESSAGES)
        raise MessageError(f"The key event must be {known}.", id=_usable_id(raw))
    try:
        message: DeviceMessage = _converter.structure(raw, message_type)
    except KeyError as error:
        raise MessageError(f"{event} needs the key {error.args[0]}.", id=_usable_id(raw)) from None
    except MessageError as error:
        raise MessageError(f"{event}: {error.message}", id=_usable_id(raw)) from None
    return message


def encode_server_message(message: ServerMessage) -> str:
    """Write a server message as the JSON text that goes to the device."""
    return _encode_json({"event": message.event, **_converter.unstructure(message)})


def _usable_id(raw: dict[str, Any]) -> str | None:
    value = raw.get("id")
    return value if is_text(value, at_least=0) else None


def _structure_token(value: object, _: object) -> str:
    if not is_text(value, at_least=0, at_most=None):
        raise MessageError("token must be a string.")
    return str(value)


def _structure_since(value: object, _: object) -> str:
    if not is_text(value):
        raise MessageError(f"since must be a cursor, a string of 1 to {MAX_ID} characters.")
    return str(value)


def _structure_id(value: object, _: object) -> str:
    if not is_text(value, at_least=0):
        raise MessageError(f"id must be a string of at most {MAX_ID} characters.")
    return str(value)


def _structure_vaults(value: object, _: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise MessageError("vaults must be a list of vault ids.")
    if not all(is_text(vault) for vault in value):
        raise MessageError(f"every vault id in vaults must be a string of 1 to {MAX_ID} characters.")
    return tuple(dict.fromkeys(value))


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    token = override(struct_hook=_structure_token)
    since = override(struct_hook=_structure_since)
    message_id = override(struct_hook=_structure_id)
    vaults = override(struct_hook=_structure_vaults)
    converter.register_structure_hook(
        Authenticate,
        make_dict_structure_fn(
            Authenticate, converter, token=token, vaults=vaults, since=since, id=message_id
        ),
    )
    converter.register_structure_hook(
        Subscribe, make_dict_structure_fn(Subscribe, converter, vaults=vaults, id=message_id)
    )
    optional = override(omit_if_default=True)
    expires_at = override(rename="expiresAt")
    converter.register_unstructure_hook(
        Authenticated,
        make_dict_unstructure_fn(
            Authenticated, converter, expires_at=expires_at, cursor=optional, resumed=optional, id=optional
        ),
    )
    converter.register_unstructure_hook(
        Subscribed, make_dict_unstructure_fn(Subscribed, converter, id=optional)
    )
    converter.register_unstructure_hook(
        Reauthenticate, make_dict_unstructure_fn(Reauthenticate, converter, expires_at=expires_at)
    )
    converter.register_unstructure_hook(Error, make_dict_unstructure_fn(Error, converter, id=optional))
    return converter


_DEVICE_MESSAGES: dict[str, type[DeviceMessage]] = {
    message_type.event: message_type for message_type in (Authenticate, Subscribe)
}
_converter = _make_converter()
# Made once: json.dumps makes a new one whenever it is asked for anything special.
_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
