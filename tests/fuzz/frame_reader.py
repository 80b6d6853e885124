"""A device's frames, as `FrameReader` reads them: the same values however the bytes are split.

The first byte of an input says how many bytes come at a time, the others are what comes.
"""

from localful_ws.protocol import (
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

# Small, so that a short input can be over it.
_MAX_MESSAGE_BYTES = 1024
# A control frame is not read before it is whole; its head has 6 bytes, its payload 125.
_MOST_BUFFERED = 130
_ENDS = (CloseReceived, Malformed)


def check(data: bytes) -> None:
    """Read frames whole and in pieces."""
    at_once, data = max(data[0], 1) if data else 1, data[1:]
    whole = _read([data])
    for value in whole:
        _check_value(value)
    assert not any(isinstance(value, _ENDS) for value in whole[:-1])
    assert _read([data[at : at + at_once] for at in range(0, len(data), at_once)]) == whole


def _read(data: list[bytes]) -> list[Received]:
    """What comes of it with a new reader whenever one is idle."""
    reader = FrameReader(_MAX_MESSAGE_BYTES)
    received: list[Received] = []
    for piece in data:
        if reader.idle:
            reader = FrameReader(_MAX_MESSAGE_BYTES)
        reader.receive(piece)
        while (value := reader.next()) is not None:
            received.append(value)
        assert reader.buffered <= _MOST_BUFFERED
        assert not (reader.idle and reader.buffered)
    return received


def _check_value(value: Received) -> None:
    match value:
        case TextReceived(text):
            assert len(text.encode()) <= _MAX_MESSAGE_BYTES
        case PingReceived(payload):
            assert len(payload) <= 125
        case CloseReceived(code, reason):
            assert code is None or 1000 <= code < 5000
            assert len(reason.encode()) <= 123
        case Malformed(code):
            assert code in (1002, 1007, 1009)
        case _:
            assert isinstance(value, BinaryReceived | PartReceived | PongReceived)
