"""Which WebSocket upgrades go ahead."""

import pytest

from localful_ws.protocol import (
    BEARER_SUBPROTOCOL,
    SUBPROTOCOL,
    Accept,
    HandshakeError,
    HandshakeRules,
    judge_handshake,
)

RULES = HandshakeRules()
ONE_ORIGIN = HandshakeRules(allowed_origins=frozenset({"https://app.example"}))
BEARER = BEARER_SUBPROTOCOL + "tok"

Headers = list[tuple[bytes, bytes]]


def refusal(rules: HandshakeRules, target: str, headers: Headers, subprotocols: list[str]) -> HandshakeError:
    """Why a handshake does not go ahead."""
    with pytest.raises(HandshakeError) as refused:
        judge_handshake(rules, target, headers, subprotocols)
    return refused.value


@pytest.mark.parametrize(
    ("rules", "target", "headers", "subprotocols", "accept"),
    [
        (RULES, "/v1/sync", [], [], Accept(None)),
        (RULES, "/v1/sync", [], [SUBPROTOCOL], Accept(SUBPROTOCOL)),
        (RULES, "/v1/sync", [], ["other", SUBPROTOCOL], Accept(SUBPROTOCOL)),
        (RULES, "/v1/sync", [], ["localful.v2"], Accept(None)),
        (RULES, "/v1/sync?a=/b", [], [], Accept(None)),
        (RULES, "/v1/sync?", [], [], Accept(None)),
        (HandshakeRules(path="/ws"), "/ws", [], [], Accept(None)),
        (RULES, "/v1/sync", [(b"origin", b"https://any.example")], [], Accept(None)),
        (ONE_ORIGIN, "/v1/sync", [], [], Accept(None)),
        (ONE_ORIGIN, "/v1/sync", [(b"origin", b"https://app.example")], [], Accept(None)),
        (RULES, "/v1/sync", [(b"authorization", b"Bearer tok")], [], Accept(None, "tok")),
        (RULES, "/v1/sync", [(b"authorization", b"bearer  tok ")], [SUBPROTOCOL], Accept(SUBPROTOCOL, "tok")),
        (RULES, "/v1/sync", [(b"authorization", b"Bearer")], [], Accept(None, "")),
        (RULES, "/v1/sync", [(b"x-forwarded-for", b"a"), (b"x-forwarded-for", b"b")], [], Accept(None)),
        (RULES, "/v1/sync", [], [SUBPROTOCOL, BEARER], Accept(SUBPROTOCOL, "tok")),
        (RULES, "/v1/sync", [], [BEARER, SUBPROTOCOL], Accept(SUBPROTOCOL, "tok")),
        (RULES, "/v1/sync", [], [SUBPROTOCOL, BEARER, BEARER_SUBPROTOCOL + "2"], Accept(SUBPROTOCOL, "tok")),
        (RULES, "/v1/sync", [], [SUBPROTOCOL, BEARER_SUBPROTOCOL], Accept(SUBPROTOCOL, "")),
        (
            RULES,
            "/v1/sync",
            [(b"host", b"x"), (b"authorization", b"Bearer header"), (b"user-agent", b"y")],
            [SUBPROTOCOL, BEARER],
            Accept(SUBPROTOCOL, "header"),
        ),
    ],
)
def test_accepts(
    rules: HandshakeRules, target: str, headers: Headers, subprotocols: list[str], accept: Accept
) -> None:
    assert judge_handshake(rules, target, headers, subprotocols) == accept


@pytest.mark.parametrize(
    ("rules", "target", "headers", "subprotocols", "status", "identifier"),
    [
        (RULES, "/", [], [], 404, "not-found"),
        (RULES, "/v1/sync/", [], [], 404, "not-found"),
        (RULES, "/v1/SYNC", [], [], 404, "not-found"),
        (RULES, "http://host/v1/sync", [], [], 404, "not-found"),
        (HandshakeRules(path="/ws"), "/v1/sync", [], [], 404, "not-found"),
        (ONE_ORIGIN, "/v1/sync", [(b"origin", b"https://evil.example")], [], 403, "origin-not-allowed"),
        (ONE_ORIGIN, "/v1/sync", [(b"origin", b"https://APP.example")], [], 403, "origin-not-allowed"),
        (ONE_ORIGIN, "/v1/sync", [(b"origin", b"null")], [], 403, "origin-not-allowed"),
        (ONE_ORIGIN, "/v1/sync", [(b"origin", b"\xff\xfe")], [], 403, "origin-not-allowed"),
        (RULES, "/v1/sync", [], [BEARER], 400, "subprotocol-missing"),
        (RULES, "/v1/sync", [(b"authorization", b"Bearer tok")], [BEARER], 400, "subprotocol-missing"),
        (RULES, "/v1/sync", [(b"origin", b"https://any.example")] * 2, [], 400, "bad-request"),
        (RULES, "/v1/sync", [(b"authorization", b"Bearer tok")] * 2, [], 400, "bad-request"),
        (
            ONE_ORIGIN,
            "/v1/sync",
            [(b"origin", b"https://app.example"), (b"x", b"y"), (b"origin", b"https://evil.example")],
            [],
            400,
            "bad-request",
        ),
        (RULES, "/v1/sync", [(b"authorization", b"Basic dG9r")], [], 401, "unauthorized"),
        (RULES, "/v1/sync", [(b"authorization", b"")], [SUBPROTOCOL, BEARER], 401, "unauthorized"),
        # What comes first is answered first.
        (
            ONE_ORIGIN,
            "/",
            [(b"origin", b"https://evil.example"), (b"authorization", b"x")],
            [BEARER],
            404,
            "not-found",
        ),
        (
            ONE_ORIGIN,
            "/v1/sync",
            [(b"authorization", b"x"), (b"origin", b"https://evil.example")],
            [],
            403,
            "origin-not-allowed",
        ),
    ],
)
def test_refuses(
    rules: HandshakeRules,
    target: str,
    headers: Headers,
    subprotocols: list[str],
    status: int,
    identifier: str,
) -> None:
    answer = refusal(rules, target, headers, subprotocols)
    assert (answer.status, answer.identifier) == (status, identifier)
    assert str(answer) == answer.message
    assert answer.message.endswith(".")
    assert "tok" not in answer.message.replace("<token>", "").replace("access token", "")


def test_a_refused_path_is_told_the_right_one() -> None:
    answer = refusal(HandshakeRules(path="/ws"), "/", [], [])
    assert answer.message == "There is nothing here; the WebSocket endpoint is /ws."


@pytest.mark.parametrize(
    ("rules", "headers", "subprotocols", "sentence"),
    [
        (
            ONE_ORIGIN,
            [(b"origin", b"null")],
            [],
            "Pages of this origin may not connect; see allow-origin.",
        ),
        (
            RULES,
            [(b"origin", b"a"), (b"authorization", b"x"), (b"authorization", b"x")],
            [],
            "The header Authorization may stand there only once.",
        ),
        (RULES, [], [BEARER], "Offer localful.v1 beside localful.bearer.<token>."),
        (RULES, [(b"authorization", b"x")], [], "Authorization must be Bearer and an access token."),
    ],
)
def test_a_refusal_says_what_to_do(
    rules: HandshakeRules, headers: Headers, subprotocols: list[str], sentence: str
) -> None:
    assert refusal(rules, "/v1/sync", headers, subprotocols).message == sentence


def test_an_accepted_token_does_not_show() -> None:
    assert "s3cr3t" not in repr(Accept(SUBPROTOCOL, "s3cr3t"))
