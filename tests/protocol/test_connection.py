"""The state machine of one connection, by tables: authentication, subscribing, renewal, expiry, the end."""

from collections.abc import Callable
from functools import partial

import pytest

from localful_ws.protocol import (
    Action,
    Close,
    CloseCode,
    Connection,
    Error,
    Event,
    EventName,
    Limits,
    LocalProtocolError,
    Rate,
    Reauthenticate,
    Rejection,
    Send,
    Session,
    State,
    Subscribed,
    Verdict,
    VerifyToken,
)

from .connections import (
    ALICE,
    BAD_TOKEN,
    CROWDED,
    CURSOR,
    LATER,
    NOW,
    REVOKED,
    authenticate,
    authenticated,
    closed,
    greeting,
    new,
    refusal,
    renewing,
    subscribe,
    text,
    verifying,
)


def test_default_limits() -> None:
    limits = Limits()
    assert (limits.auth_timeout, limits.renewal_window, limits.max_vaults) == (3.0, 60.0, 1000)
    assert (limits.message_rate, limits.frame_rate) == (Rate(30, 10.0), Rate(300, 10.0))


# --- authentication ---


def test_begins_without_a_session() -> None:
    connection = new()
    assert (connection.state, connection.session, connection.subscription) == (State.AWAITING_AUTH, None, ())
    assert connection.next_deadline() == NOW + 3.0


def test_authenticates_in_two_steps() -> None:
    connection = new()
    assert connection.receive_text(authenticate(vaults=["b", "a", "b"], id="1"), NOW) == (VerifyToken("t"),)
    assert (connection.state, connection.session) == (State.AWAITING_AUTH, None)
    assert connection.accept_session(ALICE, NOW, CURSOR) == (greeting(ALICE, "b", "a", message_id="1"),)
    assert (connection.state, connection.session) == (State.AUTHENTICATED, ALICE)
    assert connection.subscription == ("b", "a")
    assert connection.time_passed(NOW + 3.0) == ()


def test_authenticates_with_a_token_of_the_handshake() -> None:
    connection = new()
    assert connection.accept_session(ALICE, NOW, CURSOR) == (greeting(ALICE),)
    assert connection.state is State.AUTHENTICATED


@pytest.mark.parametrize(
    ("moment", "actions"),
    [
        (NOW, ()),
        (NOW + 2.999, ()),
        (NOW + 3.0, (Close(CloseCode.AUTHENTICATION_TIMEOUT),)),
        (NOW + 99.0, (Close(CloseCode.AUTHENTICATION_TIMEOUT),)),
    ],
)
def test_closes_without_authenticate_in_time(moment: float, actions: tuple[Action, ...]) -> None:
    connection = new()
    assert connection.time_passed(moment) == actions
    assert (connection.state is State.CLOSED) == bool(actions)


def test_an_authenticate_in_time_is_judged_however_long_that_takes() -> None:
    connection = verifying()
    assert connection.next_deadline() is None
    assert connection.time_passed(NOW + 99.0) == ()
    assert connection.accept_session(ALICE, NOW + 99.0, CURSOR) == (greeting(ALICE, message_id="a"),)


@pytest.mark.parametrize("rejection", [BAD_TOKEN, REVOKED, LATER, CROWDED])
def test_a_first_token_that_is_refused_closes(rejection: Rejection) -> None:
    connection = verifying()
    assert connection.reject_session(rejection) == refusal(rejection.code, rejection.message, "a")
    assert (connection.state, connection.session) == (State.CLOSED, None)


def test_a_token_from_the_handshake_that_is_refused_closes_without_an_id() -> None:
    connection = new()
    assert connection.reject_session(CROWDED) == refusal(CROWDED.code, CROWDED.message)
    assert (connection.state, connection.session) == (State.CLOSED, None)


def test_a_device_that_wants_to_resume_does_not_unless_it_is_said_to() -> None:
    connection = new()
    connection.receive_text(authenticate(since="a.0"), NOW)
    assert connection.accept_session(ALICE, NOW, CURSOR) == (greeting(ALICE, resumed=False),)


def test_too_many_vaults_before_authentication_close() -> None:
    connection = new()
    message = authenticate(vaults=[str(n) for n in range(11)], id="1")
    assert connection.receive_text(message, NOW) == refusal(
        CloseCode.BAD_MESSAGE, "A subscription holds at most 10 vaults, not 11.", "1"
    )


@pytest.mark.parametrize(
    ("message", "code", "message_id"),
    [
        (subscribe("v", id="1"), CloseCode.UNAUTHORIZED, "1"),
        (text(vaults=[]), CloseCode.UNAUTHORIZED, None),
        (text(vaults=5, id="1"), CloseCode.BAD_MESSAGE, "1"),
        (text(event="what"), CloseCode.BAD_MESSAGE, None),
        ("{", CloseCode.BAD_MESSAGE, None),
        (authenticate(vaults=[str(n) for n in range(11)], id="1"), CloseCode.BAD_MESSAGE, "1"),
    ],
)
def test_anything_else_first_closes(message: str, code: CloseCode, message_id: str | None) -> None:
    connection = new()
    [error, close] = connection.receive_text(message, NOW)
    assert isinstance(error, Send)
    assert isinstance(error.message, Error)
    assert (error.message.code, error.message.id) == (code.reason, message_id)
    assert close == Close(code)
    assert connection.state is State.CLOSED


def test_whoever_subscribes_first_is_told_what_comes_first() -> None:
    assert new().receive_text(subscribe("v", id="1"), NOW) == refusal(
        CloseCode.UNAUTHORIZED, "The first message must be authenticate.", "1"
    )


@pytest.mark.parametrize("vaults", [["v"] * 11, [str(n) for n in range(10)]])
def test_as_many_vaults_as_allowed_are_not_too_many(vaults: list[str]) -> None:
    assert new().receive_text(authenticate(vaults=vaults), NOW) == (VerifyToken("t"),)
    subscribed = Subscribed(tuple(dict.fromkeys(vaults)))
    assert authenticated().receive_text(subscribe(*vaults), NOW) == (Send(subscribed),)


# --- subscribing ---


@pytest.mark.parametrize("vaults", [(), ("v",), ("X",), tuple("abcdefgh"), tuple("abcdefghij")])
def test_subscribe_replaces_the_subscription(vaults: tuple[str, ...]) -> None:
    connection = authenticated("x", "y")
    assert connection.receive_text(subscribe(*vaults, id="1"), NOW) == (Send(Subscribed(vaults, "1")),)
    assert connection.subscription == vaults
    for vault in ("x", "X", "y", *"abcdefghij"):
        wanted = connection.wants(Event(EventName.ITEM_CREATE, "alice", vault))
        assert wanted is (Verdict.DELIVER if vault in vaults else Verdict.NOT_SUBSCRIBED)


def test_subscribe_answers_in_the_order_given_without_duplicates() -> None:
    connection = authenticated()
    assert connection.receive_text(text(vaults=list("bab")), NOW) == (Send(Subscribed(("b", "a"))),)


def test_too_many_vaults_change_nothing() -> None:
    connection = authenticated("v")
    sentence = "A subscription holds at most 10 vaults, not 11."
    asked = [str(n) for n in range(11)]
    for message in (subscribe(*asked, id="1"), authenticate(vaults=asked, id="1")):
        assert connection.receive_text(message, NOW) == (Send(Error("too-many-vaults", sentence, "1")),)
        assert (connection.state, connection.subscription) == (State.AUTHENTICATED, ("v",))
    # The token of the refused renewal is not waited for: the next message may come.
    assert connection.receive_text(subscribe("w"), NOW) == (Send(Subscribed(("w",))),)


def test_a_malformed_message_closes_an_authenticated_connection() -> None:
    connection = authenticated("v")
    [_, close] = connection.receive_text(text(event="subscribe"), NOW)
    assert close == Close(CloseCode.BAD_MESSAGE)


@pytest.mark.parametrize("make", [new, verifying, authenticated])
def test_a_binary_message_closes(make: Callable[[], Connection]) -> None:
    connection = make()
    assert connection.receive_binary() == refusal(CloseCode.BAD_MESSAGE, "Messages are text, not binary.")
    assert connection.state is State.CLOSED


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (new, None),
        (authenticated, None),
        (closed, None),
        (verifying, VerifyToken("t")),
        (partial(verifying, since="a.0"), VerifyToken("t", "a.0")),
        (partial(renewing, since="a.0"), VerifyToken("t")),
    ],
)
def test_says_which_token_is_being_verified(
    make: Callable[[], Connection], asked: VerifyToken | None
) -> None:
    connection = make()
    assert connection.verifying == asked
    connection.reject_session(LATER)
    assert connection.verifying is None


@pytest.mark.parametrize("make", [verifying, renewing])
def test_a_token_need_not_be_verified_for_a_connection_that_is_lost(make: Callable[[], Connection]) -> None:
    connection = make()
    connection.connection_lost()
    assert connection.verifying is None


def test_messages_over_the_rate_close() -> None:
    connection = Connection(Limits(message_rate=Rate(2, 10.0)), NOW)
    connection.receive_text(authenticate(), NOW)
    connection.accept_session(ALICE, NOW, CURSOR)
    assert connection.receive_text(subscribe("v"), NOW) == (Send(Subscribed(("v",))),)
    assert connection.receive_text(subscribe("w"), NOW + 5) == (Send(Subscribed(("w",))),)
    # It is refused unread: neither what it says nor its id is looked at.
    assert connection.receive_text("{", NOW + 9.9) == refusal(
        CloseCode.TOO_MANY, "At most 2 messages in 10 s are allowed."
    )


@pytest.mark.parametrize("authenticates", [True, False])
def test_frames_over_the_rate_close(*, authenticates: bool) -> None:
    connection = Connection(Limits(frame_rate=Rate(2, 10.0)), NOW)
    if authenticates:
        connection.accept_session(ALICE, NOW, CURSOR)
    for moment in (0.0, 0.0, 5.0, 10.0):
        assert connection.receive_frame(NOW + moment) == ()
    assert connection.receive_frame(NOW + 14.9) == refusal(
        CloseCode.TOO_MANY, "At most 2 frames in 10 s are allowed."
    )
    assert connection.state is State.CLOSED


@pytest.mark.parametrize("make", [verifying, renewing])
def test_frames_are_counted_while_a_token_is_verified(make: Callable[[], Connection]) -> None:
    connection = make()
    assert [connection.receive_frame(NOW) for _ in range(300)] == [()] * 300
    assert connection.receive_frame(NOW)[-1] == Close(CloseCode.TOO_MANY)
    assert connection.verifying is None


def test_frames_and_messages_are_counted_apart() -> None:
    connection = Connection(Limits(message_rate=Rate(1, 10.0), frame_rate=Rate(2, 10.0)), NOW)
    connection.accept_session(ALICE, NOW, CURSOR)
    assert connection.receive_frame(NOW) == ()
    assert connection.receive_text(subscribe("v"), NOW) == (Send(Subscribed(("v",))),)
    assert connection.receive_frame(NOW) == ()
    [_, close] = connection.receive_text(subscribe("v"), NOW)
    assert close == Close(CloseCode.TOO_MANY)


def test_frames_over_the_rate_are_nothing_to_a_closed_connection() -> None:
    connection = closed()
    assert {connection.receive_frame(NOW) for _ in range(302)} == {()}


# --- renewal and expiry ---


@pytest.mark.parametrize(("left", "asked_at"), [(7200.0, 7140.0), (5.0, 3.0)])
def test_a_renewal_takes_over_group_and_expiry_and_keeps_the_subscription(
    left: float, asked_at: float
) -> None:
    connection = renewing("v")
    assert connection.wants(Event(EventName.ITEM_CREATE, "alice", "v")) is Verdict.DELIVER
    renewed = Session("alice", "laptop", NOW + left)
    welcome = greeting(renewed, "v", cursor="a.2", message_id="r")
    assert connection.accept_session(renewed, NOW + 1, "a.2") == (welcome,)
    assert connection.session == renewed
    assert connection.next_deadline() == NOW + asked_at
    assert connection.wants(Event(EventName.ITEM_CREATE, "alice", "v", "phone")) is Verdict.DELIVER
    assert connection.wants(Event(EventName.ITEM_CREATE, "alice", "v", "laptop")) is Verdict.ECHO


@pytest.mark.parametrize("vaults", [(), ("w",)])
def test_a_renewal_with_vaults_replaces_the_subscription(vaults: tuple[str, ...]) -> None:
    connection = authenticated("v")
    connection.receive_text(authenticate(vaults=vaults), NOW)
    assert connection.subscription == ("v",)
    assert connection.accept_session(ALICE, NOW, CURSOR) == (greeting(ALICE, *vaults),)
    assert connection.subscription == vaults


@pytest.mark.parametrize("rejection", [BAD_TOKEN, LATER])
def test_a_failed_renewal_changes_nothing(rejection: Rejection) -> None:
    connection = authenticated("v")
    deadline = connection.next_deadline()
    connection.receive_text(authenticate(vaults=["w"], id="r"), NOW)
    error = Error(rejection.code.reason, rejection.message, "r")
    assert connection.reject_session(rejection) == (Send(error),)
    assert (connection.state, connection.session) == (State.AUTHENTICATED, ALICE)
    assert (connection.subscription, connection.next_deadline()) == (("v",), deadline)
    assert connection.receive_text(subscribe("w"), NOW) == (Send(Subscribed(("w",))),)


def test_a_renewal_of_a_revoked_session_closes() -> None:
    connection = renewing("v")
    assert connection.reject_session(REVOKED) == refusal(CloseCode.FORBIDDEN, REVOKED.message, "r")
    assert connection.state is State.CLOSED


def test_a_renewal_with_another_users_token_closes() -> None:
    connection = renewing("v")
    actions = connection.accept_session(Session("bob", "phone", NOW + 3600), NOW, CURSOR)
    assert actions == refusal(CloseCode.FORBIDDEN, "A renewal needs a token of the same user.", "r")
    assert (connection.state, connection.session) == (State.CLOSED, ALICE)


@pytest.mark.parametrize(
    ("window", "left", "asked_at"),
    [
        (60.0, 3600.0, 3540.0),
        (60.0, 61.0, 1.0),
        (60.0, 60.0, 30.0),
        (60.0, 40.0, 20.0),
        (60.0, 1.0, 0.5),
        (2.0, 5.0, 3.0),
        (2.0, 2.0, 1.0),
    ],
)
def test_is_asked_for_a_renewal_once_and_then_expires(window: float, left: float, asked_at: float) -> None:
    connection = Connection(Limits(renewal_window=window), NOW)
    connection.accept_session(Session("alice", "phone", NOW + left), NOW, CURSOR)
    assert connection.next_deadline() == NOW + asked_at
    assert connection.time_passed(NOW + asked_at - 0.001) == ()
    assert connection.time_passed(NOW + asked_at) == (Send(Reauthenticate(NOW + left)),)
    assert connection.next_deadline() == NOW + left
    assert connection.time_passed(NOW + left - 0.001) == ()
    assert connection.time_passed(NOW + left) == (Close(CloseCode.TOKEN_EXPIRED),)
    assert connection.state is State.CLOSED


@pytest.mark.parametrize("left", [3600.0, 0.0, -5.0])
def test_expires_without_being_asked_if_time_jumped(left: float) -> None:
    connection = authenticated(session=Session("alice", "phone", NOW + left))
    assert connection.time_passed(NOW + 3600) == (Close(CloseCode.TOKEN_EXPIRED),)


def test_a_renewal_in_the_window_is_asked_for_again_in_its_turn() -> None:
    connection = renewing()
    assert connection.time_passed(NOW + 3540) == (Send(Reauthenticate(NOW + 3600)),)
    connection.accept_session(Session("alice", "phone", NOW + 3700), NOW + 3550, CURSOR)
    assert connection.next_deadline() == NOW + 3640
    assert connection.time_passed(NOW + 3640) == (Send(Reauthenticate(NOW + 3700)),)


def test_a_token_still_being_verified_does_not_put_off_the_expiry() -> None:
    connection = renewing("v")
    assert connection.time_passed(NOW + 3600) == (Close(CloseCode.TOKEN_EXPIRED),)
    assert connection.accept_session(Session("alice", "phone", NOW + 7200), NOW + 3601, CURSOR) == ()


# --- the end ---


@pytest.mark.parametrize("make", [new, verifying, authenticated, renewing])
@pytest.mark.parametrize("code", [CloseCode.SERVER_SHUTDOWN, CloseCode.SLOW_CONSUMER, CloseCode.FORBIDDEN])
def test_close_from_the_servers_side(make: Callable[[], Connection], code: CloseCode) -> None:
    connection = make()
    assert connection.close(code) == (Close(code),)
    assert (connection.state, connection.subscription) == (State.CLOSED, ())


@pytest.mark.parametrize("make", [new, verifying, authenticated, renewing, closed])
def test_a_lost_connection_is_closed_and_may_be_lost_again(make: Callable[[], Connection]) -> None:
    connection = make()
    connection.connection_lost()
    connection.connection_lost()
    assert connection.state is State.CLOSED


@pytest.mark.parametrize(
    "push",
    [
        lambda connection: connection.receive_text(authenticate(), NOW),
        lambda connection: connection.receive_text("{", NOW),
        lambda connection: connection.receive_binary(),
        lambda connection: connection.receive_frame(NOW),
        lambda connection: connection.accept_session(ALICE, NOW, CURSOR),
        lambda connection: connection.accept_session(Session("bob", "g", NOW + 9), NOW, CURSOR),
        lambda connection: connection.reject_session(BAD_TOKEN),
        lambda connection: connection.reject_session(REVOKED),
        lambda connection: connection.time_passed(NOW + 99_999),
        lambda connection: connection.close(CloseCode.SLOW_CONSUMER),
    ],
)
@pytest.mark.parametrize("make", [new, verifying, authenticated, renewing])
def test_nothing_comes_after_the_close(
    make: Callable[[], Connection], push: Callable[[Connection], tuple[Action, ...]]
) -> None:
    connection = make()
    connection.close(CloseCode.SERVER_SHUTDOWN)
    assert push(connection) == ()
    assert (connection.state, connection.next_deadline()) == (State.CLOSED, None)


@pytest.mark.parametrize("make", [verifying, renewing])
def test_a_message_while_a_token_is_verified_is_our_own_mistake(make: Callable[[], Connection]) -> None:
    said = r"^A token is being verified; tell its outcome before the next message\.$"
    with pytest.raises(LocalProtocolError, match=said):
        make().receive_text(subscribe("v"), NOW)


def test_a_device_that_wants_to_resume_is_told_whether_it_does() -> None:
    for resumed in (True, False):
        connection = new()
        assert connection.receive_text(authenticate(since="a.0"), NOW) == (VerifyToken("t", "a.0"),)
        actions = connection.accept_session(ALICE, NOW, CURSOR, resumed=resumed)
        assert actions == (greeting(ALICE, resumed=resumed),)


def test_a_renewal_does_not_resume() -> None:
    connection = authenticated()
    assert connection.receive_text(authenticate(since="a.0"), NOW) == (VerifyToken("t"),)
    assert connection.accept_session(ALICE, NOW, CURSOR, resumed=True) == (greeting(ALICE),)
