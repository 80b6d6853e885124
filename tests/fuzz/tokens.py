"""Access tokens: as a text, and signed with the right key whatever they say.

The first byte says which. In a signed one, a zero byte ends the header.
"""

import base64
import hashlib
import hmac
from collections.abc import Coroutine

from localful_ws.protocol import MAX_ID, Session
from localful_ws.tokens import StaticKeyVerifier, TokenRejectedError, TokenRules

_SECRET = b"a secret of at least thirty-two bytes"
_NOW = 1_700_000_000.0
_VERIFIERS = (
    StaticKeyVerifier(_SECRET, "HS256", TokenRules(), lambda: _NOW),
    StaticKeyVerifier(
        _SECRET, "HS256", TokenRules(issuer="i", audience="a", group_claim="sid"), lambda: _NOW
    ),
)


def check(data: bytes) -> None:
    """Have a token verified."""
    if data[:1] == b"t":
        _check_token(data[1:].decode("latin-1"), signed=False)
    elif data[:1] == b"s":
        header, _, payload = data[1:].partition(b"\0")
        _check_token(_sign(header or b'{"alg":"HS256"}', payload), signed=True)


def _check_token(token: str, *, signed: bool) -> None:
    for verifier in _VERIFIERS:
        try:
            session = _finish(verifier.verify(token))
        except TokenRejectedError as error:
            _check_refusal(token, error)
            continue
        assert signed, "nobody guesses a signature"
        assert 1 <= len(session.user) <= MAX_ID
        assert 1 <= len(session.group) <= MAX_ID
        (session.user + session.group).encode()
        assert session.expires_at > _NOW
        assert session.issued_at is None or session.issued_at <= _NOW + 10


def _check_refusal(token: str, error: TokenRejectedError) -> None:
    assert error.message.endswith(".")
    assert len(token) < 20 or token not in error.message


def _finish(verifying: Coroutine[object, None, Session]) -> Session:
    """Run what never waits."""
    try:
        verifying.send(None)
    except StopIteration as done:
        session: Session = done.value
        return session
    raise AssertionError("a static key makes nobody wait")


def _sign(header: bytes, payload: bytes) -> str:
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    signature = hmac.digest(_SECRET, signed, hashlib.sha256)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
