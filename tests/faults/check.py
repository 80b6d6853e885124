"""Whether every device was told what concerns it: all of it, in order, once, and nothing else.

The truth is the order of the entries in Redis. Pure: logs and streams in, complaints out.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

from attrs import frozen

from .devices import Device, Record
from .reader import Audience, Reader, Rules, Stream


def check_log(audience: Audience, log: Iterable[Record], stream: Stream, rules: Rules) -> str | None:
    """Compare what a device was told with its user's stream.

    Args:
        audience: The device.
        log: All it was told.
        stream: Its user's stream.
        rules: What may happen.

    Returns:
        The first complaint, if any.
    """
    reader = Reader(audience, stream, rules)
    for number, record in enumerate(log):
        complaint = reader.take(record)
        if complaint is not None:
            return f"{audience.name}, record {number}: {complaint}"
    complaint = reader.end()
    return None if complaint is None else f"{audience.name}: {complaint}"


def check_devices(devices: Iterable[Device], streams: Mapping[str, Stream], rules: Rules) -> list[str]:
    """Compare each device's log with its user's stream; ``streams`` are named by user."""
    complaints = []
    for device in devices:
        audience = Audience(device.name, device.group, device.vaults)
        complaints.append(check_log(audience, device.log, streams.get(device.user, Stream()), rules))
    return [complaint for complaint in complaints if complaint is not None]


@frozen
class Published:
    """An event that a publisher was told is accepted.

    Attributes:
        id: Its publish id, which is in its data, too.
        publisher: Who published it; a publisher publishes one batch after another.
        user: Its user.
        event: Its name.
        vault: The vault it names, if one.
        group: Its origin group, if one.
        data: Its data.
    """

    id: str
    publisher: str
    user: str
    event: str
    vault: str | None
    group: str | None
    data: Mapping[str, str]


def check_streams(
    published: Iterable[Published], streams: Mapping[str, Stream], unsure: Collection[str] = ()
) -> list[str]:
    """See that each accepted event is in its user's stream, once, in its publisher's order, and no other.

    One that Redis has lost must have been there. It may be there again, if it was published again.

    Args:
        published: What publishers were told is accepted.
        streams: The streams, by user.
        unsure: Publishers whose events may be in no stream.
    """
    places: dict[str, tuple[str, int]] = {}
    complaints = []
    for user, stream in streams.items():
        if any(earlier.id >= later.id for earlier, later in pairwise(stream.entries)):
            complaints.append(f"the ids of {user}'s stream do not rise")
        for number, entry in enumerate(stream.entries):
            publish_id = entry.data["id"]
            if publish_id in places:
                complaints.append(f"{publish_id} is in the streams twice: {places[publish_id]}, {user}")
            places[publish_id] = user, number
    lost = {entry.data["id"] for stream in streams.values() for entry in stream.lost}
    last: dict[tuple[str, str], int] = {}
    for event in published:
        if event.id not in places:
            if event.id not in lost and event.publisher not in unsure:
                complaints.append(f"{event.id} was accepted and is in no stream")
            continue
        user, number = places.pop(event.id)
        found = streams[user].entries[number]
        wanted = (event.user, event.event, event.vault, event.group, event.data)
        if (user, found.event, found.vault, found.group, found.data) != wanted:
            complaints.append(f"{event} is in {user}'s stream as {found}")
        if number <= last.get((event.publisher, user), -1):
            complaints.append(f"{event.id} stands before what its publisher published before it")
        last[event.publisher, user] = number
    complaints += [f"{publish_id} is in a stream and was never accepted" for publish_id in places]
    return complaints
