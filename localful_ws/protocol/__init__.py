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
from localful_ws.protocol.events import Event, EventKind, EventName, data_in, encode_event
from localful_ws.protocol.frame_reader import (
    BinaryReceived,
    CloseReceived,
    FrameReader,
    Malformed,
    PartReceived,
    PingReceived,
    PongReceived,
    Received,
    TextReceived,
)
from localful_ws.protocol.frames import close_frame, ping_frame, pong_frame, text_frame
from localful_ws.protocol.handshake import (
    BEARER_SUBPROTOCOL,
    SUBPROTOCOL,
    Accept,
    HandshakeError,
    HandshakeRules,
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
    too_deep_in_steps,
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
from localful_ws.protocol.rate import Rate
from localful_ws.protocol.session import END_OF_TIME, Session
from localful_ws.protocol.state import TRANSITIONS, Happening, State, next_state, state_diagram

__all__ = [
    "BEARER_SUBPROTOCOL",
    "END_OF_TIME",
    "MAX_DEPTH",
    "MAX_ID",
    "MESSAGE_DEPTH",
    "SUBPROTOCOL",
    "TRANSITIONS",
    "Accept",
    "Action",
    "Authenticate",
    "Authenticated",
    "BinaryReceived",
    "Close",
    "CloseCode",
    "CloseReceived",
    "Connection",
    "DepthError",
    "DeviceMessage",
    "Error",
    "Event",
    "EventKind",
    "EventName",
    "FrameReader",
    "HandshakeError",
    "HandshakeRules",
    "Happening",
    "Limits",
    "LocalProtocolError",
    "Malformed",
    "MessageError",
    "PartReceived",
    "PingReceived",
    "PongReceived",
    "Rate",
    "Reauthenticate",
    "Received",
    "Reconnect",
    "Rejection",
    "Send",
    "ServerMessage",
    "Session",
    "State",
    "Subscribe",
    "Subscribed",
    "TextReceived",
    "Verdict",
    "VerifyToken",
    "close_frame",
    "data_in",
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
    "too_deep_in_steps",
]
