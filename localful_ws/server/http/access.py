"""Who may ask what on the internal port: the publisher key, and the names it is asked by."""

import hmac
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final

import structlog
import trio
from starlette.types import Scope

from localful_ws.server.http.answers import Answer, error_answer

_log = structlog.get_logger(__name__)

ANY_HOST: Final = "*"
"""Among the names that are allowed: all are."""

_TELL_AGAIN_AFTER: Final = 10.0


class PublisherKey:
    """Tells requests that show the publisher key from others. The key appears in no log and no answer.

    Args:
        key: The key.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._told_at = -_TELL_AGAIN_AFTER
        self._not_told = 0

    def is_shown(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request's headers show it."""
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), self._key)

    def refuse(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Answer | None:
        """Answer a request that does not show it; None if it does."""
        if self.is_shown(headers):
            return None
        wrong = b"authorization" in headers
        self._tell(scope, wrong=wrong)
        message = "That is not the publisher key." if wrong else "The publisher key is missing."
        return error_answer(
            401,
            "unauthorized",
            f"{message} Send it as Authorization: Bearer <key>.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _tell(self, scope: Scope, *, wrong: bool) -> None:
        now = trio.current_time()
        if now < self._told_at + _TELL_AGAIN_AFTER:
            self._not_told += 1
            return
        client = scope.get("client")
        _log.warning(
            "a request with a wrong publisher key was refused"
            if wrong
            else "a request without the publisher key was refused",
            address=None if client is None else client[0],
            more_before=self._not_told,
        )
        self._told_at, self._not_told = now, 0


class AllowedHosts:
    """The names by which the port may be asked.

    A page of the web can have its own name resolve to this machine, and then reads what it finds here as if
    it were its own (DNS rebinding). But it asks by that name: addresses and ``localhost`` are nobody's own.

    Args:
        names: More names that are this server's own; `ANY_HOST` for all.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names) | {"localhost"}

    def allow(self, host: bytes | None) -> bool:
        """Whether a request may have this header ``Host``. Without one no browser sent it."""
        if host is None or ANY_HOST in self._names:
            return True
        name = _name_in(host.decode("latin-1").lower())
        return name in self._names or name.endswith(".localhost") or _is_address(name)


def _name_in(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
