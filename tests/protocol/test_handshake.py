"""Which WebSocket upgrades go ahead."""

import pytest

from localful_ws.protocol import (
    BEARER_SUBPROTOCOL,
    SUBPROTOCOL,
    Accept,
    HandshakeRules,
    Refuse,
    judge_handshake,
)

RULES = HandshakeRules()
ONE_ORIGIN = HandshakeRules(allowed_origins=frozenset({"https://app.example"}))
BEARER = BEARER_SUBPROTOCOL + "tok"

Headers = list[tuple[bytes, bytes]]


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
    answer = judge_handshake(rules, target, headers, subprotocols)
    assert isinstance(answer, Refuse)
    assert (answer.status, answer.identifier) == (status, identifier)
    assert answer.message.endswith(".")
    assert "tok" not in answer.message.replace("<token>", "").replace("access token", "")


def test_a_refused_path_is_told_the_right_one() -> None:
    answer = judge_handshake(HandshakeRules(path="/ws"), "/", [], [])
    assert isinstance(answer, Refuse)
    assert "/ws" in answer.message


@pytest.mark.parametrize(
    ("rules", "headers", "subprotocols", "sentence"),
    [
        (
            ONE_ORIGIN,
            [(b"origin", b"null")],
            [],
            "Pages of this origin may not connect; see allow-origin.",
        ),
        (RULES, [], [BEARER], "Offer localful.v1 beside localful.bearer.<token>."),
        (RULES, [(b"authorization", b"x")], [], "Authorization must be Bearer and an access token."),
    ],
)
def test_a_refusal_says_what_to_do(
    rules: HandshakeRules, headers: Headers, subprotocols: list[str], sentence: str
) -> None:
    answer = judge_handshake(rules, "/v1/sync", headers, subprotocols)
    assert isinstance(answer, Refuse)
    assert answer.message == sentence


def test_an_accepted_token_does_not_show() -> None:
    assert "s3cr3t" not in repr(Accept(SUBPROTOCOL, "s3cr3t"))
