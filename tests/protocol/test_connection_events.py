"""Which events a connection wants, and what an event does to it."""

from collections.abc import Callable

import pytest

from localful_ws.protocol import Close, CloseCode, Connection, Event, EventKind, EventName, State, Verdict

from .connections import NOW, authenticated, closed, new, subscribe, verifying

ENDINGS = (EventName.USER_DELETE, EventName.VAULT_DELETE)


@pytest.mark.parametrize("subscription", ["v", "w"])
@pytest.mark.parametrize("group", [None, "laptop", "phone"])
@pytest.mark.parametrize("user", ["alice", "bob"])
@pytest.mark.parametrize("name", EventName)
def test_wants(name: EventName, user: str, group: str | None, subscription: str) -> None:
    connection = authenticated(subscription)
    vault = None if name.kind is EventKind.USER else "v"
    if user == "bob":
        wanted = Verdict.OTHER_USER
    elif group == "phone":
        wanted = Verdict.ECHO
    elif name.kind is EventKind.DATA and subscription != "v":
        wanted = Verdict.NOT_SUBSCRIBED
    else:
        wanted = Verdict.DELIVER
    assert connection.wants(Event(name, user, vault, group)) is wanted


@pytest.mark.parametrize("make", [new, verifying, closed])
@pytest.mark.parametrize("name", EventName)
def test_wants_nothing_unless_authenticated(make: Callable[[], Connection], name: EventName) -> None:
    connection = make()
    vault = None if name.kind is EventKind.USER else "v"
    assert connection.wants(Event(name, "alice", vault)) is Verdict.NOT_AUTHENTICATED
    assert connection.event_passed(Event(name, "alice", vault)) == ()


@pytest.mark.parametrize("group", [None, "phone"])
@pytest.mark.parametrize("vaults", [("u", "v", "w"), ("v",), ("u",), tuple("abcdefgvi"), ()])
def test_a_deleted_vault_leaves_the_subscription(vaults: tuple[str, ...], group: str | None) -> None:
    connection = authenticated(*vaults)
    assert connection.event_passed(Event(EventName.VAULT_DELETE, "alice", "v", group)) == ()
    assert connection.subscription == tuple(vault for vault in vaults if vault != "v")
    item = Event(EventName.ITEM_CREATE, "alice", "v")
    assert connection.wants(item) is Verdict.NOT_SUBSCRIBED
    connection.receive_text(subscribe("v"), NOW)
    assert connection.wants(item) is Verdict.DELIVER


@pytest.mark.parametrize("group", [None, "phone"])
def test_a_deleted_user_is_closed(group: str | None) -> None:
    connection = authenticated("v")
    event = Event(EventName.USER_DELETE, "alice", group=group)
    assert connection.event_passed(event) == (Close(CloseCode.FORBIDDEN),)
    assert connection.state is State.CLOSED


@pytest.mark.parametrize("name", EventName)
def test_what_happens_to_another_user_changes_nothing(name: EventName) -> None:
    connection = authenticated("v")
    vault = None if name.kind is EventKind.USER else "v"
    assert connection.event_passed(Event(name, "bob", vault)) == ()
    assert (connection.state, connection.subscription) == (State.AUTHENTICATED, ("v",))


@pytest.mark.parametrize("name", [name for name in EventName if name not in ENDINGS])
def test_other_events_change_nothing(name: EventName) -> None:
    connection = authenticated("v")
    vault = None if name.kind is EventKind.USER else "v"
    assert connection.event_passed(Event(name, "alice", vault)) == ()
    assert (connection.state, connection.subscription) == (State.AUTHENTICATED, ("v",))
