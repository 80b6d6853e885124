"""Tokens checked with one key out of the settings."""

from collections.abc import Callable

import trio

from localful_ws.protocol import Session
from localful_ws.tokens.claims import TokenRules, check_length, session_from_claims
from localful_ws.tokens.keys import ALGORITHMS, SECRET_ALGORITHM, PublicKey, check_public_key, check_secret
from localful_ws.tokens.signatures import VerificationKey, verified_payload


class StaticKeyVerifier:
    """A `TokenVerifier` with one secret or one public key. It never waits, and does not yield to other tasks.

    Args:
        key: For HS256 the secret, at least 32 bytes; otherwise a public key from `load_public_key`.
        algorithm: HS256, RS256, ES256 or EdDSA.
        rules: What the claims must say.
        now: Tells the moment in Unix seconds.

    Raises:
        ValueError: If the secret is too short, or key and algorithm do not go together. The message is a
            sentence.
    """

    def __init__(
        self, key: bytes | PublicKey, algorithm: str, rules: TokenRules, now: Callable[[], float]
    ) -> None:
        self._key = _verification_key(key, algorithm)
        self._rules = rules
        self._now = now

    @property
    def ready(self) -> bool:
        """See `TokenVerifier`: always."""
        return True

    @property
    def waits(self) -> bool:
        """See `TokenVerifier`: never."""
        return False

    async def verify(self, token: str) -> Session:
        """See `TokenVerifier`; it never raises `VerifierUnavailableError`."""
        check_length(token, self._rules)
        return session_from_claims(verified_payload(token, self._key), self._rules, self._now())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `TokenVerifier`: there is nothing to do in the background."""
        task_status.started()


def _verification_key(key: bytes | PublicKey, algorithm: str) -> VerificationKey:
    if algorithm not in ALGORITHMS:
        raise ValueError(f"The algorithm must be one of {', '.join(ALGORITHMS)}.")
    if isinstance(key, bytes):
        if algorithm != SECRET_ALGORITHM:
            raise ValueError(f"{algorithm} needs a public key; a secret goes with {SECRET_ALGORITHM}.")
        check_secret(key)
        return VerificationKey(key, algorithm)
    check_public_key(key, algorithm)
    return VerificationKey(key, algorithm)
