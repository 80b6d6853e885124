"""An issuer of tokens that publishes its keys, and the verifier that fetches them from it."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from localful_ws.tokens import (
    JwksLimits,
    JwksVerifier,
    TokenRejectedError,
    TokenRules,
    TokenVerifier,
    VerifierUnavailableError,
)
from tests.tokens.token_samples import PrivateKey, ed_key, signed

Answer = Callable[[], Awaitable[httpx.Response]]

URL = "https://user:hidden@issuer.example/jwks.json?key=hidden"
UNKNOWN_KEY = "The token is signed with a key that its issuer does not publish."
UNAVAILABLE = "The server cannot check tokens just now; try again later."


def public(key_id: str | None, key: PrivateKey) -> dict[str, Any]:
    """A public key as a member of a key set."""
    if isinstance(key, RSAPrivateKey):
        member = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, EllipticCurvePrivateKey):
        member = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        member = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return member if key_id is None else {**member, "kid": key_id}


class Issuer:
    """A web server with a key set; `fetches` are the moments at which it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.fetches: list[float] = []
        self.requests: list[httpx.Request] = []
        self.answer: Answer = self.key_set
        self.start = trio.current_time()

    async def key_set(self) -> httpx.Response:
        return httpx.Response(200, json={"keys": self.keys})

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.fetches.append(round(trio.current_time() - self.start, 6))
        return await self.answer()

    def make_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def verifier(self, algorithm: str | None = None, limits: JwksLimits | None = None) -> JwksVerifier:
        return JwksVerifier(
            URL,
            algorithm,
            TokenRules(),
            trio.current_time,
            self.make_client,
            limits=limits,
            jitter=lambda: 1.0,
        )


def slowly(answer: Answer, seconds: float) -> Answer:
    async def slow() -> httpx.Response:
        await trio.sleep(seconds)
        return await answer()

    return slow


def token(key: PrivateKey, algorithm: str, key_id: str | None = None) -> str:
    return signed(key, algorithm, key_id, exp=trio.current_time() + 1_000_000)


def ed_token(key_id: str | None = "k1", key: str = "a") -> str:
    return token(ed_key(key), "EdDSA", key_id)


async def rejection(verifier: TokenVerifier, text: str) -> str:
    with pytest.raises(TokenRejectedError) as caught:
        await verifier.verify(text)
    return caught.value.message


async def unavailable(verifier: TokenVerifier, text: str) -> float:
    """Seconds until the verifier says that it can't tell."""
    before = trio.current_time()
    with pytest.raises(VerifierUnavailableError) as caught:
        await verifier.verify(text)
    assert str(caught.value) == caught.value.message == UNAVAILABLE
    return round(trio.current_time() - before, 6)
