"""Whatever a device sends as a token, the answer is a session or `TokenRejectedError`."""

import json
from typing import Any

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import example, given, settings

from localful_ws.protocol import MAX_ID, Session
from localful_ws.tokens import (
    StaticKeyVerifier,
    TokenRejectedError,
    TokenRules,
    TokenVerifier,
    load_public_key,
)
from tests.tokens.token_samples import NOW, SECRET, claims, ec_key, ed_key, hs256, public_pem, rsa_key

VERIFIERS: list[TokenVerifier] = [
    StaticKeyVerifier(SECRET, "HS256", TokenRules(), lambda: NOW),
    *[
        StaticKeyVerifier(*load_public_key(public_pem(key)), TokenRules(), lambda: NOW)
        for key in (rsa_key(), ec_key(), ed_key())
    ],
]
GOOD = hs256(claims())

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**500), max_value=10**500)
    | st.floats()
    | st.text(st.characters(), max_size=140),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["HS256", "RS256", "ES256", "EdDSA", "none"]) | json_values,
        "crit": json_values,
        "b64": json_values,
        "kid": json_values,
        "typ": json_values,
    },
)
payloads = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("nbf", "iat", "iss", "aud"), json_values),
        **{name: st.text(max_size=3) | json_values for name in ("sub", "gid")},
        "exp": st.just(NOW + 5) | json_values,
        "type": st.just("accessToken") | json_values,
    },
)


def judge(token: str) -> list[Session]:
    """Give a token to every verifier; what it is not refused as is returned."""

    async def ask_all() -> tuple[list[Session], list[str]]:
        sessions, messages = [], []
        for verifier in VERIFIERS:
            try:
                sessions.append(await verifier.verify(token))
            except TokenRejectedError as error:
                messages.append(error.message)
        return sessions, messages

    sessions, messages = trio.run(ask_all)
    assert all(message.endswith(".") for message in messages)
    assert len(token) < 20 or not any(token in message for message in messages)
    return sessions


@given(st.text(st.characters(), max_size=300) | st.text("eyJ.-_=", max_size=60))
@example(".".join(["\ud800"] * 3))
@example("e30.e30.e30")
def test_text(token: str) -> None:
    assert judge(token) == []


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=20))
def test_signed_bytes(header: bytes, payload: bytes, secret: bytes) -> None:
    assert judge(hs256(payload, header)) == []
    assert judge(hs256(claims(), secret=secret)) == []


@given(headers, payloads)
@example({"alg": "HS256"}, claims())
@example({"alg": "HS256"}, claims(exp=10**400))
@settings(max_examples=200)
def test_signed_json(header: dict[str, Any], payload: dict[str, Any]) -> None:
    for session in judge(hs256(payload, header)) + judge(hs256(payload)):
        assert 1 <= len(session.user.encode()) <= 4 * MAX_ID
        assert 1 <= len(session.group.encode()) <= 4 * MAX_ID
        assert session.expires_at - NOW > 0
        assert session.issued_at is None or session.issued_at <= NOW + 10


@given(st.integers(0, len(GOOD) - 1), st.characters(), st.sampled_from(["replace", "insert", "delete"]))
def test_one_character_changed(at: int, character: str, change: str) -> None:
    rest = GOOD[at:] if change == "insert" else GOOD[at + 1 :]
    changed = GOOD[:at] + ("" if change == "delete" else character) + rest
    # The last character of base64 may hold bits that nothing reads.
    if changed != GOOD and at < len(GOOD) - 1:
        assert judge(changed) == []


@pytest.mark.parametrize("depth", [100, 101, 999, 5000])
def test_depth(depth: int) -> None:
    for nested in (b"[" * depth, b"[" * depth + b"]" * depth, b'{"sub":' * (depth // 7)):
        assert judge(hs256(nested)) == []
        assert judge(hs256(b"{}", nested)) == []
    nested = b"[" * depth + b"]" * depth
    good = json.dumps(claims()).encode()
    with_header = hs256(good, b'{"alg":"HS256","more":%b}' % nested)
    with_claims = hs256(b'%b,"more":%b}' % (good[:-1], nested))
    accepted = 1 if depth <= 100 else 0
    assert (len(judge(with_header)), len(judge(with_claims))) == (accepted, accepted)


def test_a_number_of_thousands_of_digits_in_a_claim_that_nobody_reads() -> None:
    assert len(judge(hs256(b'%b,"more":%b}' % (json.dumps(claims()).encode()[:-1], b"9" * 5000)))) == 1
