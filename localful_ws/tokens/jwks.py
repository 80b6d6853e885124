"""Tokens checked with keys that the issuer publishes at a URL (RFC 7517)."""

import random
from collections.abc import Callable
from enum import Enum
from typing import Final

import httpx
import structlog
import trio
from attrs import frozen

from localful_ws import __version__
from localful_ws.protocol import Session
from localful_ws.tokens.claims import TokenRules, check_length, session_from_claims
from localful_ws.tokens.errors import TokenRejectedError, VerifierUnavailableError
from localful_ws.tokens.keys import ALGORITHMS, SECRET_ALGORITHM
from localful_ws.tokens.keyset import KeySet, parse_key_set
from localful_ws.tokens.signatures import TokenHeader, VerificationKey, unverified_header, verified_payload
from localful_ws.wakeup import Signal

_HEADERS: Final = {
    "accept": "application/jwk-set+json, application/json",
    "accept-encoding": "identity",
    "user-agent": f"localful-ws/{__version__}",
}
_PUBLIC_ALGORITHMS: Final = tuple(name for name in ALGORITHMS if name != SECRET_ALGORITHM)


@frozen
class JwksLimits:
    """How a key set is fetched, and the bounds of it. Times are seconds.

    Attributes:
        min_interval: An unknown ``kid`` causes no fetch sooner than this after the last successful one began.
        max_age: A key set this old is fetched again unasked, so that withdrawn keys are forgotten.
        fetch_timeout: What one fetch may take.
        first_retry: About how long after a failed fetch the next one begins; it doubles with each failure.
        longest_retry: What it doubles up to.
        patience: How long `JwksVerifier.verify` waits for a fetch.
        max_bytes: The largest key set that is read.
    """

    min_interval: float = 60.0
    max_age: float = 3600.0
    fetch_timeout: float = 10.0
    first_retry: float = 1.0
    longest_retry: float = 60.0
    patience: float = 2.0
    max_bytes: int = 1024 * 1024


class _Phase(Enum):
    FETCHING = "fetching"
    """A fetch is under way, or about to begin for the first time."""
    FAILED = "failed"
    """The last fetch failed; the next begins when it is due."""
    CURRENT = "current"
    """The last fetch succeeded. The next begins when it is wanted, and due."""


class _FetchError(Exception):
    """A key set could not be fetched; the message says why and holds nothing secret."""


def make_http_client() -> httpx.AsyncClient:
    """Make the client that key sets are fetched with: it keeps no connection and follows no redirect."""
    return httpx.AsyncClient(
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=0), follow_redirects=False
    )


class JwksVerifier:
    """A `TokenVerifier` whose keys come from a JSON Web Key Set behind a URL, and may change while it runs.

    A token names its key by ``kid``; one that names none is accepted if the set has a single usable key. A
    key is used with the algorithm of its type and no other: RSA with RS256, EC on P-256 with ES256, Ed25519
    with EdDSA.

    `run` fetches the set in the background: at the start, when a token names an unknown key, and once in
    ``max_age``. However many tokens name unknown keys, there is one fetch at a time, and at most one in
    ``min_interval`` as long as they succeed. A failed one is tried again after a growing, jittered pause; the
    keys fetched before stay in use meanwhile.

    Args:
        url: Where the key set is, ``https`` or ``http``.
        algorithm: Use only keys of this algorithm; None uses all.
        rules: What the claims must say.
        now: Tells the moment in Unix seconds, on a clock that runs as Trio's does.
        make_client: Makes the HTTP client.
        limits: How often, how long and how much is fetched.
        jitter: A number from 0 up to 1, at random.

    Raises:
        ValueError: If the URL or the algorithm cannot be. The message is a sentence.
    """

    def __init__(
        self,
        url: str,
        algorithm: str | None,
        rules: TokenRules,
        now: Callable[[], float],
        make_client: Callable[[], httpx.AsyncClient] = make_http_client,
        *,
        limits: JwksLimits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if algorithm not in (None, *_PUBLIC_ALGORITHMS):
            raise ValueError(f"With a key set the algorithm must be one of {', '.join(_PUBLIC_ALGORITHMS)}.")
        self._url = _check_url(url)
        self._algorithm = algorithm
        self._rules = rules
        self._now = now
        self._make_client = make_client
        self._limits = limits or JwksLimits()
        self._jitter = jitter
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger(jwks_host=self._url.host)
        self._keys: KeySet | None = None
        self._phase = _Phase.FETCHING
        # Not before this moment does the next fetch begin.
        self._due = now()
        # Set while a fetch is under way it asks for no further one: nobody waits for it then.
        self._wanted = Signal()
        self._fetched = Signal()

    @property
    def ready(self) -> bool:
        """See `TokenVerifier`: once a key set has been fetched, and from then on."""
        return self._keys is not None

    @property
    def waits(self) -> bool:
        """See `TokenVerifier`: for the keys."""
        return True

    async def verify(self, token: str) -> Session:
        """See `TokenVerifier`; it waits up to ``patience`` where a fetch may bring the token's key."""
        check_length(token, self._rules)
        header = unverified_header(token)
        allowed = _PUBLIC_ALGORITHMS if self._algorithm is None else (self._algorithm,)
        if header.algorithm not in allowed:
            raise TokenRejectedError(f"The token must be signed with {' or '.join(allowed)}.")
        payload = verified_payload(token, await self._key_for(header))
        return session_from_claims(payload, self._rules, self._now())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `TokenVerifier`: fetches the key set, again and again."""
        async with self._make_client() as client:
            task_status.started()
            while True:
                await self._refresh(client)
                with trio.move_on_after(self._limits.max_age):
                    await self._wanted.wait()
                await trio.sleep(max(0.0, self._due - self._now()))

    async def _key_for(self, header: TokenHeader) -> VerificationKey:
        key = self._find(header)
        if key is None and (self._keys is None or header.key_id is not None):
            await self._wait_for_fetch()
            key = self._find(header)
        if key is not None:
            return key
        if self._keys is not None and header.key_id is None:
            raise TokenRejectedError("The token's header must name the key it is signed with (kid).")
        if self._phase is not _Phase.CURRENT:
            raise VerifierUnavailableError("The server cannot check tokens just now; try again later.")
        raise TokenRejectedError("The token is signed with a key that its issuer does not publish.")

    def _find(self, header: TokenHeader) -> VerificationKey | None:
        return None if self._keys is None else self._keys.find(header.key_id)

    async def _wait_for_fetch(self) -> None:
        self._wanted.set()
        if self._due - self._now() > self._limits.patience:
            return
        with trio.move_on_after(self._limits.patience):
            await self._fetched.wait()

    async def _refresh(self, client: httpx.AsyncClient) -> None:
        pause = self._limits.first_retry
        while True:
            self._phase = _Phase.FETCHING
            began = self._now()
            try:
                keys = await self._fetch(client)
            except _FetchError as error:
                self._phase = _Phase.FAILED
                delay = pause * (0.5 + self._jitter() / 2)
                pause = min(2 * pause, self._limits.longest_retry)
                self._due = self._now() + delay
                self._log.warning("key set not fetched", reason=str(error), retry_in=round(delay, 1))
                await trio.sleep(delay)
            else:
                break
        self._log.info("key set fetched", keys=keys.count)
        self._keys = keys
        self._phase = _Phase.CURRENT
        self._due = began + self._limits.min_interval
        self._fetched.set()

    async def _fetch(self, client: httpx.AsyncClient) -> KeySet:
        try:
            with trio.fail_after(self._limits.fetch_timeout):
                document = await self._download(client)
            return parse_key_set(document, self._algorithm)
        except trio.TooSlowError:
            raise _FetchError(f"no answer within {self._limits.fetch_timeout:g} s") from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise _FetchError(_reason(error)) from None
        except ValueError as error:
            raise _FetchError(str(error)) from None

    async def _download(self, client: httpx.AsyncClient) -> bytes:
        document = bytearray()
        async with client.stream("GET", self._url, headers=_HEADERS) as response:
            if response.status_code != httpx.codes.OK:
                raise _FetchError(f"the answer was HTTP {response.status_code}")
            if "content-encoding" in response.headers:
                # A few bytes may unpack to gigabytes.
                raise _FetchError("the answer is compressed, which was not asked for")
            # Leaving the loop would leave httpx's generators unfinished behind; a cancellation ends them all.
            with trio.CancelScope() as scope:
                async for chunk in response.aiter_bytes():
                    document += chunk
                    if len(document) > self._limits.max_bytes:
                        scope.cancel()
        if len(document) > self._limits.max_bytes:
            raise _FetchError(f"the answer is larger than {self._limits.max_bytes} bytes")
        return bytes(document)


def _check_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        usable = url.scheme in ("http", "https") and url.host and (url.port is None or 0 < url.port < 65536)
    except (httpx.InvalidURL, ValueError):
        usable = False
    if not usable:
        raise ValueError("The URL of the key set must begin with https:// or http:// and name a host.")
    return url


def _reason(error: BaseException) -> str:
    # Where TLS fails, httpx's error is empty, and so are the two behind it; the last one says what is wrong.
    telling: BaseException | None = error
    while telling is not None and not str(telling):
        telling = telling.__cause__ or telling.__context__
    name = type(error).__name__
    return name if telling is None else f"{name}: {telling}"
