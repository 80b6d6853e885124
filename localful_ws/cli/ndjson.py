"""Lines of JSON from standard input, gathered into the bodies of publishes."""

from collections.abc import Iterator
from io import BufferedIOBase

from attrs import frozen

from localful_ws.protocol import DepthError, decode_json

_CHUNK = 1024 * 1024
_LONGEST_LINE = 32 * 1024 * 1024
# A body of this size is large enough to be worth its request, and well below what a server takes.
_BODY_BYTES = 1024 * 1024


class LineError(Exception):
    """A line is no event; the message names it."""


@frozen
class Batch:
    """Some events, as they were written.

    Attributes:
        lines: The line number of each.
        body: The body of a publish.
    """

    lines: tuple[int, ...]
    body: bytes


def read_batches(stream: BufferedIOBase, max_events: int) -> Iterator[Batch]:
    """Read events, a line each, and batch those that are there already.

    What has arrived is handed on without waiting for more, so a slow writer's events are not held back. Empty
    lines are skipped.

    Args:
        stream: Buffered binary input.
        max_events: The most events in a batch.

    Raises:
        LineError: If a line is not a JSON object. The batches before it have been handed out.
    """
    number = 0
    rest = b""
    while True:
        chunk = stream.read1(_CHUNK)
        *lines, rest = (rest + chunk).split(b"\n")
        if not chunk:
            lines, rest = [rest], b""
        numbered = [(number + offset, line.strip()) for offset, line in enumerate(lines, 1)]
        number += len(lines)
        yield from _batches([(n, line) for n, line in numbered if line], max_events)
        if not chunk:
            return
        if len(rest) > _LONGEST_LINE:
            raise LineError(f"Line {number + 1} is longer than {_LONGEST_LINE} bytes.")


def _batches(lines: list[tuple[int, bytes]], max_events: int) -> Iterator[Batch]:
    numbers: list[int] = []
    events: list[bytes] = []
    size = 0
    for number, line in lines:
        complaint = _complaint(line)
        full = len(events) == max_events or size + len(line) > _BODY_BYTES
        if events and (full or complaint):
            yield _batch(numbers, events)
            numbers, events, size = [], [], 0
        if complaint:
            raise LineError(f"Line {number} {complaint}.")
        numbers.append(number)
        events.append(line)
        size += len(line)
    if events:
        yield _batch(numbers, events)


def _batch(numbers: list[int], events: list[bytes]) -> Batch:
    return Batch(tuple(numbers), b'{"events":[' + b",".join(events) + b"]}")


def _complaint(line: bytes) -> str | None:
    """Look for what would spoil a whole batch; whether it is an event is for the server to say."""
    try:
        return None if isinstance(decode_json(line.decode()), dict) else "is not a JSON object"
    except DepthError as error:
        return str(error)
    except ValueError:
        return "is not JSON"
