"""What Redis wrote into its append-only file: every entry of every stream, also those trimmed since."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

Id = tuple[int, int]
BEGINNING: Id = (0, 0)


@frozen
class StreamEntry:
    """An entry of a user's stream.

    Attributes:
        id: Its id in the stream.
        before: The id of the entry before it.
        event: The event's name.
        vault: The vault it names, if one.
        group: Its origin group, if one.
        data: The event's data.
    """

    id: Id
    before: Id
    event: str
    vault: str | None
    group: str | None
    data: Any


def parse_id(text: str) -> Id:
    """Read the id of a stream's entry."""
    milliseconds, _, serial = text.partition("-")
    return int(milliseconds), int(serial)


def read_entry(entry_id: str, fields: dict[str, str]) -> StreamEntry:
    """Read an entry of a user's stream."""
    event = json.loads(fields["e"])
    return StreamEntry(
        parse_id(entry_id),
        parse_id(fields["p"]),
        event["event"],
        event.get("vault"),
        event.get("group"),
        event["data"],
    )


def lose_end(directory: Path, size: int) -> None:
    """Cut at least so many bytes off the append-only file, as when a machine loses its power.

    Redis must not run. Nothing is cut in two: with half a transaction at the end of its file, Redis 7.0
    starts as if it were not there, and the next time as if it were.
    """
    path = _find_part(directory)
    most = path.stat().st_size - size
    end, in_transaction = 0, False
    for command, command_end in _commands(path):
        if command_end > most:
            break
        name = command[0].upper()
        in_transaction = name == b"MULTI" or (in_transaction and name != b"EXEC")
        if not in_transaction:
            end = command_end
    os.truncate(path, end)


def read_streams(directory: Path) -> dict[str, list[StreamEntry]]:
    """Read all entries that were ever added, by the name of their stream.

    Args:
        directory: The working directory of Redis, whose append-only file must never have been rewritten.
    """
    streams: dict[str, list[StreamEntry]] = {}
    for command, _ in _commands(_find_part(directory)):
        if command[0].upper() != b"XADD":
            continue
        key, entry_id, fields = _parse_xadd([part.decode() for part in command[1:]])
        if key.endswith("}:events"):
            streams.setdefault(key, []).append(read_entry(entry_id, fields))
    return streams


def _commands(path: Path) -> Iterator[tuple[list[bytes], int]]:
    """The commands in a file, each with the place of its end."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        if data[at : at + 1] == b"#":  # an annotation
            at = end + 2
            continue
        assert data[at : at + 1] == b"*", data[at : at + 40]
        count, at = int(data[at + 1 : end]), end + 2
        command = []
        for _ in range(count):
            end = data.index(b"\r\n", at)
            size, at = int(data[at + 1 : end]), end + 2
            command.append(data[at : at + size])
            at += size + 2
        yield command, at


def _find_part(directory: Path) -> Path:
    parts = list((directory / "appendonlydir").glob("*.incr.aof"))
    assert len(parts) == 1, f"the append-only file was rewritten: {parts}"
    return parts[0]


def _parse_xadd(arguments: list[str]) -> tuple[str, str, dict[str, str]]:
    """Take an XADD apart: key, id and fields."""
    key, *rest = arguments
    while rest[0].upper() in ("NOMKSTREAM", "MAXLEN", "MINID", "LIMIT"):
        option = rest.pop(0).upper()
        if option == "NOMKSTREAM":
            continue
        if rest[0] in ("=", "~"):
            rest.pop(0)
        rest.pop(0)
    entry_id, *pairs = rest
    return key, entry_id, dict(zip(pairs[::2], pairs[1::2], strict=True))
