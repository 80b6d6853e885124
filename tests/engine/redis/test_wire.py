"""How events, cursors and keys are written in Redis, and that what nobody should write there does no harm."""

import pytest

from localful_ws.engine.redis.feeds import BEGINNING
from localful_ws.engine.redis.keys import Keys, read_cursor, write_cursor
from localful_ws.engine.redis.wire import UNREADABLE, decode_live, decode_reading, encode_stored
from localful_ws.protocol import Event, EventName

# What must not mix up the names of keys.
USERS = ["ada", "a{b}c%é", "{", "}{", "%7B", "%257B", "{control}", "ada}:id:x", "a b\n\0", "é" * 128]
DATA = [
    b"null",
    b'{"b": 1.0,\t"a":[1e400,12345678901234567890], "\\u00e9":"\xc3\xa9\xf0\x9f\x8e\x88"}',
    b'"\\u0000\\"]}"',
    b"[" * 100 + b"]" * 100,
]
EVENTS = [
    *(Event(EventName.USER_UPDATE, "ada", None, None, data) for data in DATA),
    Event(EventName.VAULT_CREATE, "ada", "v", None, b"1"),
    Event(EventName.ITEM_CREATE, "ada", 'v"\\\n\0é', 'g"é\u2028', b'{"id": 1}', "an id"),
]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_comes_out_as_it_went_in(event: Event) -> None:
    stored = encode_stored(event)
    live = decode_live(
        "ada", b'{"epoch":"e","prev":"4-1","events":[["5-0",%b],["5-1",%b]]}' % (stored, stored)
    )
    reading = decode_reading("ada", [b"e", b"6-0", 1, [b"5-0", b"4-1", stored, b"5-1", b"5-0", stored]])
    assert (live.epoch, live.before) == (reading.epoch, reading.before) == ("e", (4, 1))
    assert (reading.last, reading.more) == ((6, 0), True)
    for entries in (live.entries, reading.entries):
        assert [place for place, _ in entries] == [(5, 0), (5, 1)]
        for place, entry in entries:
            assert entry.cursor == write_cursor("e", place)
            told = entry.event
            assert (told.name, told.user, told.vault, told.group) == (
                *(event.name, event.user),
                *(event.vault, event.group),
            )
            assert (bytes(told.data), told.id) == (event.data, None)


UNREADABLE_EVENTS = [
    b"",
    b"{}",
    b"\xff",
    b'{"event":"user-dance","data":1}',
    b'{"event":1,"data":1}',
    b'{"event":"item-create","data":1}',  # of which vault?
    b'{"event":"user-update","data":%b}' % (b"[" * 101 + b"]" * 101),
]


@pytest.mark.parametrize("stored", UNREADABLE_EVENTS)
def test_what_another_version_wrote_is_missing(stored: bytes) -> None:
    good = encode_stored(EVENTS[0])
    reading = decode_reading("ada", [b"e", b"2-0", 0, [b"1-0", b"0-0", good, b"2-0", b"1-0", stored]])
    assert not reading.entries
    assert not reading.follows("e", BEGINNING)
    with pytest.raises(UNREADABLE):
        decode_live("ada", b'{"epoch":"e","prev":"0-0","events":[["1-0",%b]]}' % stored)


@pytest.mark.parametrize(
    "cursor", ["e.0-0", "0123456789abcdef.1760000000000-12", "e" * 32 + ".9999999999999999-9999999999999999"]
)
def test_a_cursor_is_read_as_it_was_written(cursor: str) -> None:
    read = read_cursor(cursor)
    assert read is not None
    assert write_cursor(*read) == cursor


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", ".", "e.1", "e.1-", "e.-1", "e.1-1-1", "e.-1-1", ".1-1", "e.e.1-1", "e.1-1\n", " e.1-1"),
        *("E.1-1", "é.1-1", "e.\u0661-1", "e.0x1-1", f"e.{'1' * 17}-1", f"{'e' * 33}.1-1"),
    ],
)
def test_what_is_no_cursor(cursor: str) -> None:
    assert read_cursor(cursor) is None


def test_no_two_users_share_a_key() -> None:
    keys = Keys("p")
    names = {
        keys.of_user(user, what) for user in USERS for what in ("events", "head", "live", "id:x", "id:}")
    }
    assert len(names) == 5 * len(USERS)
    assert not names & {keys.revoked, keys.lapses, keys.control, keys.intake, keys.of_node("x")}
    for user in USERS:
        # A hash tag goes from the first { to the first } after it, and has something in it.
        tags = {
            keys.of_user(user, what).partition("{")[2].partition("}")[0] for what in ("events", "id:}x{y}")
        }
        assert len(tags) == 1
        assert "" not in tags
