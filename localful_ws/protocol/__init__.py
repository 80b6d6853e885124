"""The protocol without I/O: messages, events, close codes and the state machine of a connection.

It imports the standard library, attrs and cattrs, and nothing that waits, listens or tells the time.
"""

from localful_ws.protocol.close_codes import CloseCode, Reconnect
from localful_ws.protocol.codec import decode_device_message, encode_server_message
from localful_ws.protocol.connection import (
    Action,
    Close,
    Connection,
    Limits,
    Rejection,
    Send,
    Verdict,
    VerifyToken,
)
from localful_ws.protocol.errors import LocalProtocolError, MessageError
from localful_ws.protocol.events import Event, EventKind, EventName, encode_event
from localful_ws.protocol.frames import close_frame, ping_frame, pong_frame, text_frame
from localful_ws.protocol.handshake import (
    BEARER_SUBPROTOCOL,
    SUBPROTOCOL,
    Accept,
    HandshakeRules,
    Refuse,
    judge_handshake,
)
from localful_ws.protocol.json_text import (
    MAX_DEPTH,
    MAX_ID,
    MESSAGE_DEPTH,
    DepthError,
    decode_json,
    find_too_deep,
    is_text,
    is_too_deep,
    refuse_constant,
)
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
from localful_ws.protocol.rate import Rate, RateLimit
from localful_ws.protocol.session import Session
from localful_ws.protocol.state import TRANSITIONS, Happening, State, next_state, state_diagram

__all__ = [
    "BEARER_SUBPROTOCOL",
    "MAX_DEPTH",
    "MAX_ID",
    "MESSAGE_DEPTH",
    "SUBPROTOCOL",
    "TRANSITIONS",
    "Accept",
    "Action",
    "Authenticate",
    "Authenticated",
    "Close",
    "CloseCode",
    "Connection",
    "DepthError",
    "DeviceMessage",
    "Error",
    "Event",
    "EventKind",
    "EventName",
    "HandshakeRules",
    "Happening",
    "Limits",
    "LocalProtocolError",
    "MessageError",
    "Rate",
    "RateLimit",
    "Reauthenticate",
    "Reconnect",
    "Refuse",
    "Rejection",
    "Send",
    "ServerMessage",
    "Session",
    "State",
    "Subscribe",
    "Subscribed",
    "Verdict",
    "VerifyToken",
    "close_frame",
    "decode_device_message",
    "decode_json",
    "encode_event",
    "encode_server_message",
    "find_too_deep",
    "is_text",
    "is_too_deep",
    "judge_handshake",
    "next_state",
    "ping_frame",
    "pong_frame",
    "refuse_constant",
    "state_diagram",
    "text_frame",
]
