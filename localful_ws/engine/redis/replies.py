"""RESP3, as far as a subscriber hears it: from bytes to replies, with no I/O in it."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import frozen

_END: Final = b"\r\n"


class ProtocolError(Exception):
    """What came is not RESP3."""


@frozen
class Push:
    """What Redis sends without being asked: a message, or the answer to a subscription.

    Attributes:
        items: Its kind, such as ``b"message"``, and what belongs to it.
    """

    items: list[Any]


@frozen
class ErrorReply:
    """Redis could not do what it was told to.

    Attributes:
        text: Why, in its words.
    """

    text: str


class _IncompleteError(Exception):
    pass


class ReplyReader:
    """Takes bytes as they arrive, and gives out the replies that are complete."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Take what has arrived."""
        self._data += data

    def replies(self) -> Iterator[Any]:
        """The replies that are complete by now: `Push`, `ErrorReply`, bytes, numbers, None, lists and dicts.

        Raises:
            ProtocolError: If what came can't be understood; nothing after it can.
        """
        position = 0
        try:
            while position < len(self._data):
                try:
                    reply, position = self._read(position)
                except _IncompleteError:
                    return
                except (ValueError, TypeError, LookupError):
                    raise ProtocolError("Redis sent something that is not RESP3.") from None
                yield reply
        finally:
            del self._data[:position]

    def _read(self, start: int) -> tuple[Any, int]:
        end = self._data.find(_END, start)
        if end < 0:
            raise _IncompleteError
        kind, rest = bytes(self._data[start : start + 1]), bytes(self._data[start + 1 : end])
        position = end + len(_END)
        if kind in b"$=":
            return self._read_bulk(int(rest), position)
        if kind in b"*~>%":
            count = int(rest) * (2 if kind == b"%" else 1)
            items, position = self._read_items(count, position)
            return _AGGREGATES[kind](items), position
        return _SCALARS[kind](rest), position

    def _read_bulk(self, size: int, start: int) -> tuple[bytes | None, int]:
        if size < 0:
            return None, start
        end = start + size
        if len(self._data) < end + len(_END):
            raise _IncompleteError
        return bytes(self._data[start:end]), end + len(_END)

    def _read_items(self, count: int, start: int) -> tuple[list[Any], int]:
        items, position = [], start
        for _ in range(count):
            item, position = self._read(position)
            items.append(item)
        return items, position


def _pair(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _read_error(text: bytes) -> ErrorReply:
    return ErrorReply(text.decode(errors="replace"))


_AGGREGATES: Final[dict[bytes, Callable[[list[Any]], Any]]] = {
    b"*": list,
    b"~": list,
    b">": Push,
    b"%": _pair,
}
_SCALARS: Final[dict[bytes, Callable[[bytes], Any]]] = {
    b"+": bytes,
    b"-": _read_error,
    b":": int,
    b"(": int,
    b",": float,
    b"_": lambda _: None,
    b"#": b"t".__eq__,
}
