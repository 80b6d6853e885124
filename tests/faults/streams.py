"""Every user's stream in Redis, as it was written and as it is now."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote

import trio

from tests.redis_server import RedisServer

from .aof import StreamEntry, read_entry, read_streams
from .reader import Stream
from .resp import command

Written = dict[str, list[StreamEntry]]
"""Entries by the name of their stream."""


def start_redis(*options: str) -> RedisServer:
    """A Redis that loses nothing when it is killed; for ``with``."""
    # Every part of the append-only file is read in the end, so none may be replaced by a newer one.
    return RedisServer("--auto-aof-rewrite-percentage", "0", *options, appendonly=True, appendfsync="always")


def stream_key(user: str) -> str:
    """The key of a user's stream: what Redis would take for the end of a hash tag is escaped."""
    tag = "".join(quote(each) if each in "{}%" else each for each in user)
    return f"localful:{{@{tag}}}:events"


async def read_all(
    redis: RedisServer, users: Sequence[str], *, all_kept: bool, earlier: Iterable[Written] = ()
) -> tuple[dict[str, Stream], list[str]]:
    """Read all that was ever in the users' streams, from the append-only file.

    Args:
        redis: A server that `start_redis` made.
        users: Who has streams; anybody else should have none.
        all_kept: Whether everything should still be there, and not only the end.
        earlier: What was in the file before its end was lost, as often as that was.

    Returns:
        The streams by user, and complaints.
    """
    complaints = []
    written = await trio.to_thread.run_sync(read_streams, redis.directory)
    streams = {}
    for user in users:
        key = stream_key(user)
        kept = [
            read_entry(entry_id, dict(zip(fields[::2], fields[1::2], strict=True)))
            for entry_id, fields in await command(("127.0.0.1", redis.port), "XRANGE", key, "-", "+")
        ]
        stream = written.pop(key, [])
        there = {entry.id for entry in stream}
        lost = [entry for some in earlier for entry in some.get(key, ()) if entry.id not in there]
        streams[user] = Stream(stream, lost)
        if kept != stream[len(stream) - len(kept) :]:
            complaints.append(f"the stream of {user} is not the end of what was written to it")
        if all_kept and len(kept) != len(stream):
            complaints.append(f"{len(stream) - len(kept)} entries of the stream of {user} are gone")
    complaints += [f"there is a stream {key} of nobody's" for key in written]
    return streams, complaints
