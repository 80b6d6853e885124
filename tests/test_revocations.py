"""What is remembered about sessions ended from outside."""

from itertools import product

import hypothesis.strategies as st
import pytest
from hypothesis import given

from localful_ws.protocol import Session
from localful_ws.publishing import Disconnect
from localful_ws.revocations import Revocations, TooManyRevocationsError

HOSTILE = [
    "a",
    "b",
    "a:b",
    "b:c",
    ":",
    "a:",
    '"',
    "\\",
    'a","b',
    "[",
    " ",
    "None",
    "null",
    "\x00",
    "\N{SNOWMAN}",
    "é",
]


def session(user: str = "u1", group: str = "g1", issued_at: float | None = 50.0) -> Session:
    return Session(user, group, 1000.0, issued_at)


def revoke(
    revocations: Revocations,
    user: str | None = None,
    group: str | None = None,
    *,
    at: float = 100,
    until: float = 200,
    now: float = 100,
) -> None:
    revocations.revoke([Disconnect(user, group, at=at, until=until)], now)


def test_nothing_is_revoked_at_first() -> None:
    revocations = Revocations(10)
    assert not revocations.is_revoked(session(), 100)
    assert len(revocations) == 0


NAMED: list[tuple[str | None, str | None]] = [("u1", "g1"), ("u1", None), (None, "g1")]


@pytest.mark.parametrize(("user", "group"), NAMED)
@pytest.mark.parametrize(
    ("issued_at", "revoked"), [(None, True), (0, True), (99.9, True), (100, False), (101, False)]
)
def test_by_time_of_issue_until_a_moment(
    user: str | None, group: str | None, issued_at: float | None, *, revoked: bool
) -> None:
    revocations = Revocations(10)
    revoke(revocations, user, group)
    theirs = session(issued_at=issued_at)
    assert Disconnect(user, group, at=100, until=200).refuses(theirs) is revoked
    assert revocations.is_revoked(theirs, 100) is revoked
    assert revocations.is_revoked(theirs, 199.9) is revoked
    assert not revocations.is_revoked(theirs, 200)


@pytest.mark.parametrize(("user", "group"), NAMED)
def test_who_is_named(user: str | None, group: str | None) -> None:
    revocations = Revocations(10)
    revoke(revocations, user, group)
    disconnect = Disconnect(user, group, at=100, until=200)
    for other in (session(), session("u2"), session(group="g2"), session("g1", "u1"), session("u2", "g2")):
        named = user in (None, other.user) and group in (None, other.group)
        assert disconnect.refuses(other) is named
        assert revocations.is_revoked(other, 100) is named


def test_one_login_of_many_is_named_whatever_ids_are() -> None:
    logins = list(product(HOSTILE, HOSTILE))
    for user, group in logins:
        revocations = Revocations(1)
        revoke(revocations, user, group)
        assert [
            (other.user, other.group)
            for other in (session(*login) for login in logins)
            if revocations.is_revoked(other, 100)
        ] == [(user, group)]


def test_extending_never_shortens() -> None:
    revocations = Revocations(10)
    revoke(revocations, "u1", "g1")
    revoke(revocations, "u1", "g1", until=150)
    assert revocations.is_revoked(session(), 199)
    revoke(revocations, "u1", "g1", until=300)
    assert revocations.is_revoked(session(), 299)
    assert not revocations.is_revoked(session(), 300)
    assert len(revocations) == 0

    revoke(revocations, "u1", at=60, until=400, now=300)
    revoke(revocations, "u1", at=40, until=350, now=300)
    assert revocations.is_revoked(session(), 399)
    revoke(revocations, "u1", at=70, until=310, now=300)
    assert revocations.is_revoked(session(issued_at=65), 399)


def test_what_lapsed_before_is_not_extended() -> None:
    # Many that lapse at once are forgotten a few at a time, so some are still there when they come again.
    revocations = Revocations(1000)
    users = [f"u{number}" for number in range(500)]
    for user in users:
        revoke(revocations, user)
    for user in users:
        revoke(revocations, user, at=40, until=300, now=250)
    for user in users:
        assert not revocations.is_revoked(session(user=user, issued_at=50), 260)
        assert revocations.is_revoked(session(user=user, issued_at=30), 260)
    assert len(revocations) == 500


@pytest.mark.parametrize("until", [100, 99, -1e300])
def test_a_moment_that_has_passed_changes_nothing(until: float) -> None:
    revocations = Revocations(1)
    for user, group in NAMED:
        revoke(revocations, user, group, until=until)
    assert len(revocations) == 0
    revoke(revocations, group="g1")
    revoke(revocations, group="g1", until=until)
    revoke(revocations, group="g2", until=until)
    assert revocations.is_revoked(session(), 199)


def test_full() -> None:
    revocations = Revocations(3)
    revoke(revocations, "u1", "g1")
    revoke(revocations, "u1", at=10, until=300)
    revoke(revocations, group="g3", until=300)
    for user, group in (("u1", "g2"), ("u2", None), (None, "g1")):
        with pytest.raises(TooManyRevocationsError):
            revoke(revocations, user, group, at=100, until=500, now=199)
    assert not revocations.is_revoked(session("u2", "g2"), 199)
    # What is there already may be updated.
    revoke(revocations, "u1", at=90, until=400, now=199)
    assert revocations.is_revoked(session(group="g2", issued_at=80), 199)
    # And what lapses makes room.
    revoke(revocations, "u2", until=500, now=200)
    assert revocations.is_revoked(session("u2"), 200)
    assert len(revocations) == 3


def test_all_or_none() -> None:
    def disconnects(*users: str) -> list[Disconnect]:
        return [Disconnect(user, at=100, until=200) for user in users]

    revocations = Revocations(3)
    with pytest.raises(TooManyRevocationsError):
        revocations.revoke(disconnects("u1", "u2", "u3", "u4"), 100)
    assert len(revocations) == 0
    revocations.revoke(disconnects("u1", "u2", "u1"), 100)
    with pytest.raises(TooManyRevocationsError):
        revocations.revoke(disconnects("u1", "u3", "u4"), 100)
    assert not revocations.is_revoked(session("u3"), 100)
    revocations.revoke(disconnects("u2", "u3"), 100)
    revocations.revoke(disconnects("u1", "u2", "u3"), 100)
    assert all(revocations.is_revoked(session(f"u{number}"), 199) for number in (1, 2, 3))
    revocations.revoke([], 100)


def test_those_that_have_lapsed_make_room_for_as_many_and_for_themselves() -> None:
    revocations = Revocations(100)
    old = [Disconnect(f"u{number}", at=100, until=200) for number in range(100)]
    revocations.revoke(old, 100)
    again = [Disconnect(f"u{number}", at=300, until=400) for number in range(50, 150)]
    revocations.revoke(again, 300)
    assert len(revocations) == 100
    assert all(revocations.is_revoked(session(f"u{number}", issued_at=299), 399) for number in range(50, 150))


def test_remembering_knows_no_limit_and_its_room_is_given_back() -> None:
    revocations = Revocations(2)
    revocations.remember([Disconnect(f"u{number}", at=100, until=200) for number in range(5)], 100)
    assert all(revocations.is_revoked(session(f"u{number}"), 199) for number in range(5))
    with pytest.raises(TooManyRevocationsError):
        revoke(revocations, "u5")
    revoke(revocations, "u4", until=300)
    revocations.remember([Disconnect("u6", at=100, until=200)], 200)
    assert len(revocations) == 1
    assert not revocations.is_revoked(session("u6"), 200)
    revoke(revocations, "u5", until=300, now=200)
    assert revocations.is_revoked(session("u5"), 200)


def test_room_for_none() -> None:
    with pytest.raises(TooManyRevocationsError):
        revoke(Revocations(0), "u1", "g1")


def test_room_is_found_behind_many_that_were_extended() -> None:
    revocations = Revocations(200)
    for number in range(200):
        revoke(revocations, group=f"g{number}", until=200 + number / 1000)
    for number in range(199):
        revoke(revocations, group=f"g{number}", until=500)
    revoke(revocations, group="new", until=500, now=300)
    assert revocations.is_revoked(session(group="new"), 300)
    assert not revocations.is_revoked(session(group="g199"), 300)
    assert all(revocations.is_revoked(session(group=f"g{number}"), 300) for number in range(199))
    assert len(revocations) == 200


def test_all_is_forgotten_in_the_end() -> None:
    revocations = Revocations(10_000)
    for number in range(10_000):
        # The same ones come again and again, and are kept once each.
        revoke(revocations, "u1", f"g{number % 1000}", until=200 + number)
    assert len(revocations) == 1000
    for _ in range(1000):
        revocations.is_revoked(session(), 20_000)
    assert len(revocations) == 0


moments = st.integers(0, 30).map(float)
named = st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["a", "b", "c", None])).filter(any)
calls = st.lists(st.tuples(named, moments, moments, st.integers(0, 3)), max_size=40)


@given(calls)
def test_against_a_model(steps: list[tuple[tuple[str | None, str | None], float, float, int]]) -> None:
    """Beside a plain dictionary that forgets nothing; the clock goes on between steps."""
    revocations = Revocations(1000)
    made: dict[tuple[str | None, str | None], tuple[float, float]] = {}
    now = 0.0
    for whom, at, until, pause in steps:
        now += pause
        revoke(revocations, *whom, at=at, until=until, now=now)
        if until > now:
            before, end = made.get(whom, (0.0, 0.0))
            made[whom] = (max(at, before), max(until, end)) if end > now else (at, until)
        for user, group, issued_at in [("a", "b", 5.0), ("b", "c", 15.0), ("c", "a", None)]:
            expected = any(
                {each_user, each_group} - {None}
                and each_user in (None, user)
                and each_group in (None, group)
                and now < end
                and (issued_at is None or issued_at < before)
                for (each_user, each_group), (before, end) in made.items()
            )
            assert revocations.is_revoked(session(user, group, issued_at), now) is expected


def test_nobody_is_no_disconnect() -> None:
    with pytest.raises(ValueError, match="names a user, a group or both"):
        Disconnect(at=100, until=200)
