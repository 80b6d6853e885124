"""What is remembered about sessions ended from outside."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from localful_ws.protocol import Session
from localful_ws.revocations import Revocations, TooManyRevocationsError


def session(user: str = "u1", group: str = "g1", issued_at: float | None = 50.0) -> Session:
    return Session(user, group, 1000.0, issued_at)


def test_nothing_is_revoked_at_first() -> None:
    revocations = Revocations(10)
    assert not revocations.is_revoked(session(), 100)
    assert len(revocations) == 0


@pytest.mark.parametrize("issued_at", [None, 0.0, 99.0, 100.0, 500.0])
def test_a_group_until_its_moment(issued_at: float | None) -> None:
    revocations = Revocations(10)
    revocations.revoke_group("g1", until=200, now=100)
    revoked = session(issued_at=issued_at)
    assert revocations.is_revoked(revoked, 100)
    assert revocations.is_revoked(revoked, 199.9)
    assert not revocations.is_revoked(revoked, 200)
    assert not revocations.is_revoked(session(group="g2"), 100)
    # A user of the same name is another thing.
    assert not revocations.is_revoked(session(user="g1", group="g2"), 100)


@pytest.mark.parametrize(
    ("issued_at", "revoked"), [(None, True), (0, True), (99.9, True), (100, False), (101, False)]
)
def test_a_user_by_time_of_issue(issued_at: float | None, revoked: bool) -> None:  # noqa: FBT001
    revocations = Revocations(10)
    revocations.revoke_user("u1", issued_before=100, until=200, now=100)
    assert revocations.is_revoked(session(issued_at=issued_at), 199.9) is revoked
    assert not revocations.is_revoked(session(issued_at=issued_at), 200)
    assert not revocations.is_revoked(session(user="u2", group="u1", issued_at=issued_at), 150)


def test_extending_never_shortens() -> None:
    revocations = Revocations(10)
    revocations.revoke_group("g1", until=200, now=100)
    revocations.revoke_group("g1", until=150, now=100)
    assert revocations.is_revoked(session(), 199)
    revocations.revoke_group("g1", until=300, now=100)
    assert revocations.is_revoked(session(), 299)
    assert not revocations.is_revoked(session(), 300)
    assert len(revocations) == 0

    revocations.revoke_user("u1", issued_before=60, until=400, now=300)
    revocations.revoke_user("u1", issued_before=40, until=350, now=300)
    assert revocations.is_revoked(session(), 399)
    revocations.revoke_user("u1", issued_before=70, until=310, now=300)
    assert revocations.is_revoked(session(issued_at=65), 399)


def test_what_lapsed_before_is_not_extended() -> None:
    # Many that lapse at once are forgotten a few at a time, so some are still there when they come again.
    revocations = Revocations(1000)
    users = [f"u{number}" for number in range(500)]
    for user in users:
        revocations.revoke_user(user, issued_before=100, until=200, now=100)
    for user in users:
        revocations.revoke_user(user, issued_before=40, until=300, now=250)
    for user in users:
        assert not revocations.is_revoked(session(user=user, issued_at=50), 260)
        assert revocations.is_revoked(session(user=user, issued_at=30), 260)
    assert len(revocations) == 500


@pytest.mark.parametrize("until", [100, 99, -math.inf])
def test_a_moment_that_has_passed_changes_nothing(until: float) -> None:
    revocations = Revocations(1)
    revocations.revoke_group("g1", until, now=100)
    revocations.revoke_user("u1", 100, until, now=100)
    assert len(revocations) == 0
    revocations.revoke_group("g1", 200, now=100)
    revocations.revoke_group("g1", until, now=100)
    revocations.revoke_group("g2", until, now=100)
    assert revocations.is_revoked(session(), 199)


def test_forever_is_a_moment_too() -> None:
    revocations = Revocations(2)
    revocations.revoke_group("g1", math.inf, now=100)
    revocations.revoke_group("g1", 200, now=100)
    assert revocations.is_revoked(session(), 1e18)


def test_full() -> None:
    revocations = Revocations(2)
    revocations.revoke_group("g1", until=200, now=100)
    revocations.revoke_user("u1", issued_before=10, until=300, now=100)
    with pytest.raises(TooManyRevocationsError):
        revocations.revoke_group("g2", until=500, now=100)
    with pytest.raises(TooManyRevocationsError):
        revocations.revoke_user("u2", issued_before=100, until=500, now=199)
    assert not revocations.is_revoked(session(user="u2", group="g2"), 199)
    # What is there already may be updated.
    revocations.revoke_user("u1", issued_before=90, until=400, now=199)
    assert revocations.is_revoked(session(group="g2", issued_at=80), 199)
    # And what lapses makes room.
    revocations.revoke_group("g2", until=500, now=200)
    assert revocations.is_revoked(session(group="g2", issued_at=999), 200)
    assert not revocations.is_revoked(session(issued_at=999), 200)
    assert len(revocations) == 2


def test_room_for_none() -> None:
    with pytest.raises(TooManyRevocationsError):
        Revocations(0).revoke_group("g1", until=200, now=100)


def test_room_is_found_behind_many_that_were_extended() -> None:
    revocations = Revocations(200)
    for number in range(200):
        revocations.revoke_group(f"g{number}", until=200 + number / 1000, now=100)
    for number in range(199):
        revocations.revoke_group(f"g{number}", until=500, now=100)
    revocations.revoke_group("new", until=500, now=300)
    assert revocations.is_revoked(session(group="new"), 300)
    assert not revocations.is_revoked(session(group="g199"), 300)
    assert all(revocations.is_revoked(session(group=f"g{number}"), 300) for number in range(199))
    assert len(revocations) == 200


def test_all_is_forgotten_in_the_end() -> None:
    revocations = Revocations(10_000)
    for number in range(10_000):
        # The same ones come again and again, and are kept once each.
        revocations.revoke_group(f"g{number % 1000}", until=200 + number, now=100)
    assert len(revocations) == 1000
    for _ in range(1000):
        revocations.is_revoked(session(), 20_000)
    assert len(revocations) == 0


moments = st.integers(0, 30).map(float)
calls = st.lists(
    st.tuples(st.sampled_from("gu"), st.sampled_from("abc"), moments, moments, st.integers(0, 3)), max_size=40
)


@given(calls)
def test_against_a_model(steps: list[tuple[str, str, float, float, int]]) -> None:
    """Beside a plain dictionary that forgets nothing; the clock goes on between steps."""
    revocations = Revocations(1000)
    made: dict[tuple[str, str], tuple[float, float]] = {}
    now = 0.0
    for kind, name, issued_before, until, pause in steps:
        now += pause
        if kind == "g":
            revocations.revoke_group(name, until, now)
        else:
            revocations.revoke_user(name, issued_before, until, now)
        if until > now:
            before, end = made.get((kind, name), (0.0, 0.0))
            new = math.inf if kind == "g" else issued_before
            made[kind, name] = (max(new, before), max(until, end)) if end > now else (new, until)
        for user, group, issued_at in [("a", "b", 5.0), ("b", "c", 15.0), ("c", "a", None)]:
            entries = [made.get(("g", group)), made.get(("u", user))]
            expected = any(
                entry is not None and now < entry[1] and (issued_at is None or issued_at < entry[0])
                for entry in entries
            )
            assert revocations.is_revoked(session(user, group, issued_at), now) is expected
