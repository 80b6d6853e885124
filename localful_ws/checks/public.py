"""The way from outside: whether a WebSocket gets through to the daemon, and only that."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Final, TypeVar

import trio
from attrs import frozen

from localful_ws.checks.finding import Finding, Outcome, failed, ok, warning
from localful_ws.checks.probe import Answer, Frames, NoAnswerError, get, upgrade
from localful_ws.checks.verdicts import CHECK, judge_no_connection, judge_refusal
from localful_ws.client.endpoint import Endpoint, parse_endpoint
from localful_ws.protocol import SUBPROTOCOL
from localful_ws.settings import Settings
from localful_ws.tokens import mint_token

T = TypeVar("T")

_MOST_ORIGINS: Final = 5
_STRANGER: Final = "https://localful-ws-check.invalid"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_USER: Final = "localful-ws-check"
_INTERNAL_PATHS: Final = ("/metrics", "/v1/events")


class _NoReplyError(Exception):
    """There was no answer.

    Attributes:
        finding: What to say of it.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


async def check_public(
    settings: Settings,
    url: str,
    timeout: float,  # noqa: ASYNC109 - it bounds each of several steps
    *,
    hold: float = 0,
    token: str | None = None,
) -> AsyncGenerator[Finding, None]:
    """Connect as a device does, and look for the internal port.

    Args:
        settings: The daemon's settings.
        url: Where devices connect to.
        timeout: Seconds for each request.
        hold: Seconds to stay connected, to see whether idle connections are cut; 0 leaves it out.
        token: An access token for that; None makes one with ``jwt-secret``.

    Raises:
        ValueError: If the URL is none.
    """
    endpoint = parse_endpoint(url)
    visit = _Visit(settings, endpoint, timeout)
    if not endpoint.tls and endpoint.host not in _LOOPBACK:
        yield warning(
            CHECK, "The URL is not wss://: tokens and events travel in the open.", "Put TLS before it."
        )
    try:
        first = await visit.connect()
    except _NoReplyError as error:
        yield error.finding
        return
    yield first
    parts = [visit.look_for_internal()]
    if first.outcome is Outcome.OK:
        parts.append(visit.try_origins())
        if hold > 0:
            parts.append(visit.hold(hold, token))
    for part in parts:
        try:
            async for finding in part:
                yield finding
        except _NoReplyError as error:
            yield error.finding


@frozen
class _Visit:
    settings: Settings
    endpoint: Endpoint
    timeout: float

    async def connect(self) -> Finding:
        """Upgrade, and see whether frames pass."""
        answer = await self._ask(upgrade(self.endpoint))
        if isinstance(answer, Answer):
            return judge_refusal(answer, self.endpoint, self.settings)
        frames = Frames(answer)
        try:
            if not answer.accepted:
                return failed(
                    CHECK,
                    "HTTP 101, but not in answer to this handshake.",
                    "No cache may answer for the daemon; let Sec-WebSocket-Key and -Accept pass.",
                )
            if answer.subprotocol != SUBPROTOCOL:
                return failed(
                    CHECK,
                    f"The WebSocket opens without the subprotocol {SUBPROTOCOL}, and browsers give it up.",
                    "Have the proxy pass Sec-WebSocket-Protocol on, there and back; or the path leads to "
                    "another WebSocket server.",
                )
            return await self._ping(frames)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await frames.close()

    async def _ping(self, frames: Frames) -> Finding:
        began = trio.current_time()
        answered = None
        with trio.move_on_after(self.timeout):
            answered = await frames.ping()
        if answered:
            took = 1000 * (trio.current_time() - began)
            return ok(CHECK, f"A WebSocket opens, and a ping came back after {took:.0f} ms.")
        if answered is None:
            return failed(
                CHECK,
                f"A WebSocket opens, but a ping is not answered within {self.timeout:g} s.",
                "The proxy holds frames back: have it pass them on at once, without buffering or inspecting.",
            )
        return failed(
            CHECK,
            "A WebSocket opens, but the connection ends before a ping is answered.",
            "See the proxy's log: it has to pass on both directions after the upgrade, and longer than a "
            "request may take.",
        )

    async def try_origins(self) -> AsyncIterator[Finding]:
        """Come as web pages do, of origins that may and of one that may not."""
        allowed = self.settings.allow_origin
        refused = []
        for origin in allowed[:_MOST_ORIGINS] or (_STRANGER,):
            status = await self._status_with(f"Origin: {origin}")
            if status != 101:
                refused.append(f"{origin} (HTTP {status})")
        if refused:
            yield failed(
                "origins",
                f"Web pages are refused: {', '.join(refused)}.",
                "Have the proxy pass Origin on unchanged, without rules of its own, and list in allow-origin "
                "what the address bar shows: scheme, host and port. Restart the daemon after a change.",
            )
        elif not allowed:
            yield warning(
                "origins",
                "Web pages of any origin may connect.",
                "Set allow-origin, if tokens might reach foreign pages.",
            )
        elif await self._status_with(f"Origin: {_STRANGER}") == 101:
            yield failed(
                "origins",
                f"A web page of a foreign origin ({_STRANGER}) is let in.",
                "Have the proxy pass Origin on as it came; restart the daemon, if allow-origin was just set.",
            )
        else:
            yield ok("origins", "Web pages of the allowed origins get in, others don't.")

    async def look_for_internal(self) -> AsyncIterator[Finding]:
        """See whether anything that only the internal port answers is answered here."""
        path = self.endpoint.target.partition("?")[0]
        prefix = path.removesuffix(self.settings.path)
        prefixes = ("", prefix) if path.endswith(self.settings.path) and prefix else ("",)
        found = []
        for target in [before + name for before in prefixes for name in _INTERNAL_PATHS]:
            answer = await self._ask(get(self.endpoint, target))
            if is_internal(answer):
                found.append(target)
        if found:
            yield failed(
                "internal port",
                f"The internal port can be reached from outside: {', '.join(found)}.",
                f"Take what leads to port {self.settings.internal_port} out of the proxy; let it pass only "
                f"{path}, to port {self.settings.port}.",
            )
        else:
            yield ok("internal port", "Metrics and publishing can't be reached through the public URL.")

    async def hold(self, seconds: float, token: str | None) -> AsyncIterator[Finding]:
        """Be an idle device for a while."""
        if token is None and self.settings.jwt_secret is None:
            yield warning(
                "idle", "To stay connected takes an access token.", "Give one in LOCALFUL_WS_TOKEN."
            )
            return
        bearer = token or self._mint(seconds)
        answer = await self._ask(upgrade(self.endpoint, f"Authorization: Bearer {bearer}"))
        if isinstance(answer, Answer):
            yield failed(
                "idle",
                f"HTTP {answer.status} with an access token in Authorization. {answer.message}",
                "Give a valid token; look whether the daemon that runs has these settings, and whether the "
                "proxy passes Authorization on.",
            )
            return
        frames = Frames(answer)
        began = trio.current_time()
        with trio.move_on_after(seconds) as holding:
            await frames.take_until_end()
        lived = trio.current_time() - began
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await frames.close()
        interval = self.settings.ping_interval
        if not holding.cancelled_caught:
            code = "" if frames.code is None else f" with {frames.code}"
            yield failed(
                "idle",
                f"An idle connection ended after {lived:.0f} s{code}.",
                f"Let the proxy's idle timeout be longer than ping-interval ({interval:g} s); nginx: "
                f"proxy_read_timeout {3 * interval:.0f}s. With 4401 or another close code it was the daemon: "
                "does it have these settings?",
            )
        elif seconds > interval and not frames.pings:
            yield failed(
                "idle",
                f"No ping of the daemon arrived in {seconds:g} s.",
                "Have the proxy pass pings on, and without delay.",
            )
        else:
            yield ok("idle", f"An idle connection lasted {seconds:g} s; {frames.pings} pings arrived.")

    def _mint(self, seconds: float) -> str:
        return mint_token(
            self.settings.jwt_secret or b"",
            _USER,
            secrets.token_hex(8),
            int(seconds + self.settings.renewal_window) + 60,
            int(time.time()),
            issuer=self.settings.jwt_issuer,
            audience=self.settings.jwt_audience,
            group_claim=self.settings.group_claim,
        )

    async def _status_with(self, header: str) -> int:
        answer = await self._ask(upgrade(self.endpoint, header))
        if isinstance(answer, Answer):
            return answer.status
        await trio.aclose_forcefully(answer.stream)
        return 101

    async def _ask(self, asking: Awaitable[T]) -> T:
        try:
            with trio.fail_after(self.timeout):
                return await asking
        except trio.TooSlowError:
            finding = failed(
                CHECK,
                f"No answer from {self.endpoint.host}:{self.endpoint.port} within {self.timeout:g} s.",
                "Look at the firewall, and whether the proxy passes the request to the right port.",
            )
            raise _NoReplyError(finding) from None
        except NoAnswerError as error:
            finding = failed(
                CHECK,
                str(error),
                "Begin the URL with wss:// if TLS is spoken there, or correct its port."
                if not self.endpoint.tls
                else "Correct the port, and see the proxy's log.",
            )
            raise _NoReplyError(finding) from None
        except (OSError, trio.BrokenResourceError) as error:
            raise _NoReplyError(judge_no_connection(error, self.endpoint)) from None


def is_internal(answer: Answer) -> bool:
    """Whether this is how the internal port answers a GET of `_INTERNAL_PATHS`."""
    return (
        b"localful_ws_" in answer.body
        or (answer.identifier == "method-not-allowed" and answer.headers.get("allow") == "POST")
        or answer.identifier in ("metrics-unavailable", "host-not-allowed")
        or "events are published at" in answer.message
    )
