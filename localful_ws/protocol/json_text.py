"""JSON that others send, read alike on every Python (spec/protocol.md, "Nesting and numbers").

Left to itself, a parser goes as deep as the interpreter lets it, and refuses whole numbers of thousands of
digits; how deep and how many differs between versions and settings of Python. So it is decided here.
"""

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final, NoReturn

MAX_ID: Final = 128
"""The longest id, in characters: of a user, a token group, a vault or a message."""

MAX_DEPTH: Final = 100
"""How deep arrays and objects may be nested in the value of a key; ``[]`` is one deep, ``[[]]`` two."""

MESSAGE_DEPTH: Final = MAX_DEPTH + 1
"""How deep a whole object may be whose values are as deep as `MAX_DEPTH`: a message, an event, claims."""

_MOST_DIGITS: Final = 640  # what every Python reads, whatever limit it was given

# So many are counted one by one; of more, whole layers are taken off first, which is much faster.
_MANY_BRACKETS: Final = 10_000
_PIECE: Final = 256 * 1024
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = {ord("["): 1, ord("]"): -1}
_NEITHER_BRACKET_NOR_QUOTE: Final = bytes(set(range(256)) - set(b'[]{}"'))
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},]', re.DOTALL)


class DepthError(ValueError):
    """Arrays and objects are nested too deeply. The message goes on where "The message" or "data" began."""

    def __init__(self) -> None:
        super().__init__(f"is nested more than {MAX_DEPTH} deep")


def decode_json(text: str, depth: int = MESSAGE_DEPTH) -> Any:
    """Parse JSON (RFC 8259).

    Args:
        text: The whole text.
        depth: How deep it may be.

    Returns:
        What `json` makes of it; but a number that is too large for a float, or has more than 640 digits, is
        infinite.

    Raises:
        DepthError: If it is deeper than that, whatever else may be wrong with it.
        ValueError: If it is not JSON. The message says why, and repeats nothing of the text.
    """
    if is_too_deep(text, depth):
        raise DepthError
    return _decode(text)


def is_too_deep(text: str | bytes, depth: int) -> bool:
    """Whether a parser would have to go deeper than so many arrays and objects within each other.

    It is told before anything is parsed, without recursion, and need not be JSON: behind a mistake, where no
    parser goes, brackets count as well.
    """
    whole = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    return any(too_deep_in_steps(whole, depth))


def too_deep_in_steps(text: bytes | bytearray, depth: int) -> Iterator[bool]:
    """The same of a text in UTF-8, step by step: for each piece of it, whether it goes too deep there.

    None of them takes longer than some 10 ms.
    """
    if len(text) <= _PIECE and text.count(b"[") + text.count(b"{") <= depth:
        return
    whole, begin, in_string = memoryview(text), 0, False
    while begin < len(whole):
        piece = bytes(whole[begin : begin + _PIECE])
        begin += len(piece)
        if b"\\" in piece:
            # First pairs of backslashes, then escaped quotes: what is left of them begins or ends a string.
            piece = piece.replace(b"\\\\", b"")
            if piece.endswith(b"\\"):  # what it escapes lies behind the border
                piece += whole[begin : begin + 1]
                begin += 1
            piece = piece.replace(b'\\"', b"")
        # Between two quotes side by side there is nothing, be it within a string or not.
        parts = piece.translate(None, _NEITHER_BRACKET_NOR_QUOTE).replace(b'""', b"").split(b'"')
        bare = b"".join(parts[in_string::2]).translate(_SQUARE)
        in_string ^= len(parts) % 2 == 0
        yield _goes_too_deep(bare, depth)
        depth -= bare.count(b"[") - bare.count(b"]")


def _goes_too_deep(brackets: bytes, depth: int) -> bool:
    if len(brackets) <= _MANY_BRACKETS:
        return _goes_deeper(brackets, depth)
    # Without the innermost brackets it is less deep by one; where some are never closed, by one at most.
    outer, left = brackets, depth
    while left > 0 and len(inner := outer.replace(b"[]", b"")) <= len(outer) // 2:
        outer, left = inner, left - 1
    return _goes_deeper(outer, left) and _goes_deeper(brackets, depth)


def _goes_deeper(brackets: bytes, depth: int) -> bool:
    return any(map(depth.__lt__, accumulate(map(_STEPS.__getitem__, brackets))))


def find_too_deep(text: str, depth: int) -> tuple[str | int, ...]:
    """Find where a text is too deep, if `is_too_deep` has said that it is; it takes its time.

    Returns:
        The keys, as they are written, and the indexes that lead there; nothing if that can't be said. A key
        is empty if none stands where one belongs.
    """
    path: list[str | int] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("[", "{"):
            if len(path) == depth:
                return tuple(path)
            path.append(0 if token == "[" else "")
        elif token in ("]", "}"):
            del path[-1:]
        elif path and isinstance(path[-1], int):
            path[-1] += token == ","
        elif path:
            path[-1] = token[1:-1]  # a key, if a bracket follows it; nothing after a comma
    return ()


def is_text(value: object, *, at_least: int = 1, at_most: int | None = MAX_ID) -> bool:
    """Whether a value is a string of so many characters; as it stands, whether it can be an id."""
    if not isinstance(value, str) or len(value) < at_least or (at_most is not None and len(value) > at_most):
        return False
    # JSON can spell half a surrogate pair, which is no character and can't be sent on as UTF-8.
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which `json` would take and RFC 8259 does not have."""
    raise ValueError(f"{name} is not a JSON number")


def _whole_number(digits: str) -> float:
    return int(digits) if len(digits.lstrip("-")) <= _MOST_DIGITS else float(digits)


# Made once: the functions of the json module make a new one whenever they are asked for anything special.
_decode: Final = json.JSONDecoder(parse_int=_whole_number, parse_constant=refuse_constant).decode
