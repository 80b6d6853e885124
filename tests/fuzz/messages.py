"""Text messages: what a device sends, the connection's answer, and what a client reads."""

import json

from localful_ws.client import ServerMessageError
from localful_ws.client.codec import ReceivedEvent, decode_server_message
from localful_ws.protocol import (
    MAX_ID,
    Authenticate,
    Close,
    CloseCode,
    Connection,
    DeviceMessage,
    Error,
    Limits,
    MessageError,
    Send,
    Session,
    State,
    Subscribe,
    VerifyToken,
    decode_device_message,
    encode_server_message,
)

_LIMITS = Limits(max_vaults=3)
_SESSION = Session("ada", "laptop", 5000.0)


def check(data: bytes) -> None:
    """Give a text to everything that reads text; bytes that are no UTF-8 never come so far."""
    text = data.decode("utf-8", "replace")
    _check_device_message(text)
    for session in (None, _SESSION):
        _check_connection(text, session)
    _check_server_message(text)


def _check_device_message(text: str) -> None:
    try:
        message = decode_device_message(text)
    except MessageError as error:
        _check_refusal(error)
        return
    assert isinstance(message, Authenticate | Subscribe)
    assert decode_device_message(_encode(message)) == message
    for vault in message.vaults or ():
        assert 1 <= len(vault) <= MAX_ID
        vault.encode()


def _check_refusal(error: MessageError) -> None:
    assert error.code is CloseCode.BAD_MESSAGE
    assert error.message.endswith(".")
    assert error.id is None or len(error.id) <= MAX_ID


def _encode(message: DeviceMessage) -> str:
    values = {"token": getattr(message, "token", None), "since": getattr(message, "since", None)}
    values |= {"vaults": message.vaults, "id": message.id}
    return json.dumps(
        {"event": message.event} | {key: value for key, value in values.items() if value is not None}
    )


def _check_connection(text: str, session: Session | None) -> None:
    connection = Connection(_LIMITS, 0.0)
    if session is not None:
        connection.accept_session(session, 0.0, "c.1")
    actions = connection.receive_text(text, 1.0)
    assert actions, "every message is answered"
    for action in actions:
        match action:
            case Send(message):
                assert len(encode_server_message(message)) < 4096
                received = decode_server_message(encode_server_message(message))
                assert received == message
                if isinstance(message, Error):
                    assert message.id is None or len(message.id) <= MAX_ID
            case Close(code):
                assert code in (CloseCode.BAD_MESSAGE, CloseCode.UNAUTHORIZED)
                assert connection.state is State.CLOSED
            case VerifyToken(token, since):
                assert since is None or session is None
                assert token == json.loads(text)["token"]
    assert len(connection.subscription) <= _LIMITS.max_vaults
    # Whatever came, the end is the end.
    connection.close(CloseCode.SERVER_SHUTDOWN)
    assert connection.receive_text(text, 2.0) == ()


def _check_server_message(text: str) -> None:
    try:
        message = decode_server_message(text)
    except ServerMessageError:
        return
    if message is not None and not isinstance(message, ReceivedEvent):
        assert decode_server_message(encode_server_message(message)) == message
