"""The client without I/O."""

import json
from typing import Any

import pytest

from localful_ws.client import ClosedByServerError, ReceivedEvent, RefusedByServerError, ServerMessageError
from localful_ws.client.conversation import ClientState, ComeBack, Conversation, GiveUp, SubscribeRequest
from localful_ws.protocol import Error, LocalProtocolError, Reauthenticate, Session, Subscribed


def message(**keys: Any) -> str:
    return json.dumps(keys)


def sent(conversation: Conversation) -> list[dict[str, Any]]:
    return [json.loads(text) for text in conversation.take_outgoing()]


def open_connection(conversation: Conversation, token: str = "t1") -> dict[str, Any]:
    assert conversation.take_token(token) is None
    conversation.connection_opened()
    (authenticate,) = sent(conversation)
    return authenticate


def authenticate(conversation: Conversation, token: str = "t1") -> None:
    said = open_connection(conversation, token)
    confirm(conversation, said["id"], said["vaults"])


def confirm(conversation: Conversation, message_id: str, vaults: list[str], expires_at: float = 1000) -> None:
    conversation.receive_text(
        message(
            event="authenticated",
            user="ada",
            group="phone",
            expiresAt=expires_at,
            vaults=vaults,
            id=message_id,
        )
    )


def ready(*vaults: str, token: str = "t1") -> Conversation:
    conversation = Conversation(vaults)
    authenticate(conversation, token)
    return conversation


def state_of(conversation: Conversation) -> ClientState:
    return conversation.state


def outcome_of(request: SubscribeRequest) -> Subscribed | Error | None:
    return request.outcome


def lose(conversation: Conversation, code: int = 1006, reason: str = "", chance: float = 1.0) -> Any:
    return conversation.connection_lost(code, reason, "It ended.", chance)


def test_a_connection_begins_with_authenticate() -> None:
    conversation = Conversation(["v1", "v2", "v1"])
    assert state_of(conversation) is ClientState.DISCONNECTED
    assert open_connection(conversation) == {
        "event": "authenticate",
        "token": "t1",
        "id": "1",
        "vaults": ["v1", "v2"],
    }
    assert state_of(conversation) is ClientState.AUTHENTICATING
    confirm(conversation, "1", ["v1", "v2"])
    assert state_of(conversation) is ClientState.READY
    assert conversation.session == Session("ada", "phone", 1000)
    assert conversation.vaults == ("v1", "v2")
    assert sent(conversation) == []


def test_events_are_handed_over_once_ready() -> None:
    conversation = ready("v1")
    event = conversation.receive_text(message(event="item-create", vault="v1", data={"a": 1}))
    assert event == ReceivedEvent("item-create", "v1", {"a": 1})
    assert conversation.receive_text(message(event="something-new")) is None


def test_a_subscription_is_asked_for_and_confirmed() -> None:
    conversation = ready("v1")
    request = conversation.subscribe(["v2", "v3", "v2"])
    assert sent(conversation) == [{"event": "subscribe", "vaults": ["v2", "v3"], "id": request.id}]
    assert list(conversation.vaults) == ["v1"]
    conversation.receive_text(message(event="subscribed", vaults=["v2", "v3"], id=request.id))
    assert request.outcome == Subscribed(("v2", "v3"), request.id)
    assert conversation.vaults == ("v2", "v3")


def test_a_refused_subscription_leaves_the_earlier_one() -> None:
    conversation = ready("v1")
    request = conversation.subscribe(["v2"])
    error = message(event="error", code="too-many-vaults", message="Too many.", id=request.id)
    conversation.receive_text(error)
    assert request.outcome == Error("too-many-vaults", "Too many.", request.id)
    lose(conversation)
    assert open_connection(conversation)["vaults"] == ["v1"]


def test_a_refusal_does_not_undo_a_later_wish() -> None:
    conversation = ready("v1")
    first, _ = conversation.subscribe(["v2"]), conversation.subscribe(["v3"])
    conversation.receive_text(message(event="error", code="x", message="No.", id=first.id))
    assert conversation.wanted == ("v3",)


def test_an_answer_to_nothing_does_nothing() -> None:
    conversation = ready("v1")
    request = conversation.subscribe(["v2"])
    conversation.receive_text(message(event="subscribed", vaults=["v9"], id="unknown"))
    conversation.receive_text(message(event="subscribed", vaults=["v9"]))
    assert outcome_of(request) is None
    conversation.forget(request)
    conversation.forget(request)
    conversation.receive_text(message(event="subscribed", vaults=["v2"], id=request.id))
    assert outcome_of(request) is None
    assert conversation.vaults == ("v2",)


def test_a_wish_without_a_connection_goes_along_with_the_next() -> None:
    conversation = Conversation([])
    request = conversation.subscribe(["v1"])
    assert sent(conversation) == []
    assert open_connection(conversation)["vaults"] == ["v1"]
    assert outcome_of(request) is None
    confirm(conversation, "2", ["v1"])
    assert request.outcome == Subscribed(("v1",), request.id)
    assert sent(conversation) == []


def test_a_wish_that_the_connection_did_not_live_to_answer_goes_along_with_the_next() -> None:
    conversation = ready("v1")
    request = conversation.subscribe(["v2"])
    lose(conversation)
    assert sent(conversation) == []
    authenticate(conversation)
    assert request.outcome == Subscribed(("v2",), request.id)


def test_a_wish_while_the_token_is_verified_is_sent_when_that_is_done() -> None:
    conversation = Conversation(["v1"])
    said = open_connection(conversation)
    request = conversation.subscribe(["v2"])
    assert sent(conversation) == []
    confirm(conversation, said["id"], ["v1"])
    assert sent(conversation) == [{"event": "subscribe", "vaults": ["v2"], "id": request.id}]
    assert outcome_of(request) is None


def test_a_deleted_vault_is_not_asked_for_again() -> None:
    conversation = ready("v1", "v2")
    conversation.receive_text(message(event="vault-delete", vault="v1", data=None))
    assert conversation.vaults == ("v2",)
    lose(conversation)
    assert open_connection(conversation)["vaults"] == ["v2"]


def test_a_new_token_renews_the_session_and_leaves_the_subscription() -> None:
    conversation = ready("v1")
    assert conversation.receive_text(message(event="reauthenticate", expiresAt=1000)) == Reauthenticate(1000)
    conversation.renew("t2")
    (renewal,) = sent(conversation)
    assert renewal == {"event": "authenticate", "token": "t2", "id": renewal["id"]}
    confirm(conversation, renewal["id"], ["v1"], expires_at=2000)
    assert conversation.session == Session("ada", "phone", 2000)
    # The new one is the one that is now refused, should it be.
    lose(conversation, 4410, "token-expired")
    assert conversation.take_token("t1") is None
    assert isinstance(conversation.take_token("t2"), GiveUp)


def test_the_old_token_renews_nothing() -> None:
    conversation = ready()
    conversation.renew("t1")
    assert sent(conversation) == []


def test_a_renewal_comes_too_late_without_a_connection() -> None:
    conversation = ready()
    lose(conversation)
    conversation.renew("t2")
    open_connection(conversation)
    assert sent(conversation) == []


def test_a_refused_renewal_leaves_the_session() -> None:
    conversation = ready()
    conversation.renew("t2")
    (renewal,) = sent(conversation)
    conversation.receive_text(message(event="error", code="unauthorized", message="No.", id=renewal["id"]))
    assert conversation.session == Session("ada", "phone", 1000)
    lose(conversation, 4410, "token-expired")
    assert isinstance(conversation.take_token("t1"), GiveUp)


@pytest.mark.parametrize(
    ("code", "reason", "delay"),
    [(1001, "server-shutdown", 10.0), (4412, "slow-consumer", 1.0), (4429, "too-many", 5.0), (1006, "", 1.0)],
)
def test_it_comes_back_after_a_pause(code: int, reason: str, delay: float) -> None:
    conversation = ready()
    assert lose(conversation, code, reason) == ComeBack(delay, code, reason, "It ended.")
    assert (conversation.state, conversation.session) == (ClientState.DISCONNECTED, None)


def test_pauses_grow_until_a_connection_is_ready() -> None:
    conversation = Conversation([])
    delays = []
    for _ in range(4):
        conversation.take_token("t1")
        delays.append(conversation.connection_lost(None, "", "Nobody there.", 1.0).delay)  # type: ignore[union-attr]
    assert delays == [1.0, 2.0, 4.0, 8.0]
    open_connection(conversation)
    assert lose(conversation).delay == 16.0
    authenticate(conversation)
    assert lose(conversation).delay == 1.0


@pytest.mark.parametrize(
    ("code", "reason"), [(4400, "bad-message"), (4403, "forbidden"), (1009, ""), (1000, "")]
)
def test_it_gives_up_where_the_close_code_says_so(code: int, reason: str) -> None:
    conversation = ready()
    decision = lose(conversation, code, reason)
    assert isinstance(decision, GiveUp)
    error = decision.error
    assert isinstance(error, ClosedByServerError)
    assert (error.code, error.reason, error.message) == (code, reason, "It ended.")
    assert str(error) == (f"It ended. ({code} {reason})" if reason else f"It ended. ({code})")
    assert state_of(conversation) is ClientState.ENDED


def test_the_sentence_is_that_of_the_error_that_went_before() -> None:
    conversation = ready()
    conversation.receive_text(message(event="error", code="too-many-vaults", message="An older one."))
    conversation.receive_text(message(event="error", code="forbidden", message="The session is revoked."))
    decision = lose(conversation, 4403, "forbidden")
    assert str(decision.error) == "The session is revoked. (4403 forbidden)"


def test_an_error_of_another_word_is_not_the_reason() -> None:
    conversation = ready()
    conversation.receive_text(message(event="error", code="too-many-vaults", message="An older one."))
    assert str(lose(conversation, 4403, "forbidden").error) == "It ended. (4403 forbidden)"


def test_an_error_of_an_earlier_connection_is_not_the_reason() -> None:
    conversation = ready()
    conversation.receive_text(message(event="error", code="too-many", message="An older one."))
    assert lose(conversation, 4429, "too-many").message == "An older one."
    authenticate(conversation)
    assert lose(conversation, 4429, "too-many").message == "It ended."


def test_a_refused_token_is_not_tried_again() -> None:
    conversation = Conversation([])
    open_connection(conversation, "t1")
    conversation.receive_text(message(event="error", code="unauthorized", message="Expired."))
    assert lose(conversation, 4401, "unauthorized") == ComeBack(1.0, 4401, "unauthorized", "Expired.")
    decision = conversation.take_token("t1")
    assert isinstance(decision, GiveUp)
    assert str(decision.error) == "Expired. (4401 unauthorized)"
    assert state_of(conversation) is ClientState.ENDED


def test_a_new_token_is_tried() -> None:
    conversation = Conversation([])
    open_connection(conversation, "t1")
    lose(conversation, 4401, "unauthorized")
    assert open_connection(conversation, "t2")["token"] == "t2"


def test_a_token_that_was_not_refused_is_good_for_another_connection() -> None:
    conversation = ready(token="t1")
    lose(conversation, 1001, "server-shutdown")
    assert open_connection(conversation, "t1")["token"] == "t1"


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (404, b'{"message":"There is nothing here."}', "There is nothing here. (HTTP 404)"),
        (403, b"<html>", "The server answered the WebSocket handshake with HTTP 403. (HTTP 403)"),
        (403, b'{"message":5}', "The server answered the WebSocket handshake with HTTP 403. (HTTP 403)"),
        (403, b"\xff", "The server answered the WebSocket handshake with HTTP 403. (HTTP 403)"),
        (403, b"[" * 100_000, "The server answered the WebSocket handshake with HTTP 403. (HTTP 403)"),
    ],
)
def test_a_refused_handshake_ends_it(status: int, body: bytes, sentence: str) -> None:
    conversation = Conversation([])
    decision = conversation.handshake_refused(status, body, 1.0)
    assert isinstance(decision, GiveUp)
    assert isinstance(decision.error, RefusedByServerError)
    assert (str(decision.error), decision.error.status) == (sentence, status)


def test_a_server_that_is_full_is_tried_again_later() -> None:
    conversation = Conversation([])
    decision = conversation.handshake_refused(503, b'{"message":"Full."}', 1.0)
    assert decision == ComeBack(5.0, None, "", "Full.")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        message(event="item-create", vault="v1", data=1),
        message(event="subscribed", vaults=[]),
        message(event="reauthenticate", expiresAt=1),
    ],
)
def test_nothing_but_an_answer_can_come_before_authentication(text: str) -> None:
    conversation = Conversation([])
    open_connection(conversation)
    with pytest.raises(ServerMessageError) as caught:
        conversation.receive_text(text)
    assert conversation.server_misbehaved(caught.value) == GiveUp(caught.value)
    assert state_of(conversation) is ClientState.ENDED


def test_after_closing_nothing_comes_of_anything() -> None:
    conversation = ready("v1")
    conversation.subscribe(["v2"])
    conversation.close()
    conversation.close()
    assert (conversation.state, conversation.session) == (ClientState.ENDED, None)
    assert sent(conversation) == []
    assert lose(conversation) == GiveUp(None)
    conversation.subscribe(["v3"])
    conversation.renew("t2")
    assert sent(conversation) == []


def test_misuse_is_an_error_of_ours() -> None:
    conversation = Conversation([])
    with pytest.raises(LocalProtocolError):
        conversation.connection_opened()
    authenticate(conversation)
    with pytest.raises(LocalProtocolError):
        conversation.connection_opened()


def test_no_token_is_in_its_representation() -> None:
    conversation = ready(token="the-token")
    conversation.renew("the-token-2")
    lose(conversation, 4401, "unauthorized")
    assert "the-token" not in repr(conversation)
