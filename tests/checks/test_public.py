"""The way from outside: each fault of a proxy is told from the others, and what to change is said."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
import trustme

from localful_ws.checks import Finding, Outcome
from localful_ws.checks.public import check_public
from localful_ws.server.daemon import Daemon
from tests.checks.proxy import Fault, adding, rewriting, running_proxy, without
from tests.world import make_settings

pytestmark = pytest.mark.sockets

PATIENCE = 30
ORIGIN = "https://app.example"


@asynccontextmanager
async def running_daemon(**changes: Any) -> AsyncIterator[Daemon]:
    """Have a daemon in this process."""
    settings = make_settings(port=0, internal_port=0, drain_seconds=0, **changes)
    daemon = Daemon(settings)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.serve)
            yield daemon
            nursery.cancel_scope.cancel()


async def look(
    fault: Fault,
    *,
    url: str = "ws://127.0.0.1:{port}/v1/sync",
    context: ssl.SSLContext | None = None,
    patience: float = 5,
    hold: float = 0,
    token: str | None = None,
    internal: Callable[[Daemon], Fault] | None = None,
    **changes: Any,
) -> dict[str, Finding]:
    """What is found when a proxy is like this; by check, the worst of each."""
    async with running_daemon(**changes) as daemon:
        if internal is not None:
            fault = internal(daemon)
        async with running_proxy(fault, daemon.addresses.websocket[1], context) as port:
            findings: dict[str, Finding] = {}
            settings = make_settings(**changes)
            async for finding in check_public(
                settings, url.format(port=port), patience, hold=hold, token=token
            ):
                if finding.check not in findings or finding.outcome is Outcome.FAILED:
                    findings[finding.check] = finding
            return findings


async def test_a_good_proxy() -> None:
    findings = await look(Fault(), allow_origin=(ORIGIN,), hold=0.2)
    assert {name: finding.outcome.value for name, finding in findings.items()} == {
        "public url": "ok",
        "origins": "ok",
        "internal port": "ok",
        "idle": "ok",
    }
    assert not any(finding.advice for finding in findings.values())


def page(status: str, body: str = "<html>nginx</html>", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return ("\r\n".join([*lines, "", ""]) + body).encode()


REDIRECT = "301 Moved Permanently"


@pytest.mark.parametrize(
    ("fault", "message", "advice"),
    [
        pytest.param(
            Fault(without("Upgrade")), "no longer as a WebSocket", "Upgrade $http_upgrade", id="426"
        ),
        pytest.param(
            Fault(rewriting("HTTP/1.1", "HTTP/1.0")),
            "no longer as a WebSocket",
            "proxy_http_version 1.1",
            id="HTTP/1.0",
        ),
        pytest.param(Fault(answer=page("200 OK")), "as a page", "Upgrade", id="200"),
        pytest.param(Fault(answer=page("400 Bad Request")), "not passed on", "Upgrade", id="400"),
        pytest.param(
            Fault(answer=page("400 Bad Request", "The plain HTTP request was sent to HTTPS port")),
            "speaks TLS",
            "wss://",
            id="plain to TLS",
        ),
        pytest.param(
            Fault(answer=page("404 Not Found")), "no such host or path", "leading to port", id="404"
        ),
        pytest.param(Fault(answer=page("403 Forbidden")), "a login of its own", "access rules", id="403"),
        pytest.param(Fault(answer=page("502 Bad Gateway")), "does not reach", "the daemon runs", id="502"),
        pytest.param(
            Fault(answer=page("504 Gateway Timeout")), "does not reach", "the daemon runs", id="504"
        ),
        pytest.param(Fault(answer=page("418 I'm a teapot")), "HTTP 418", "what the proxy does", id="418"),
        pytest.param(
            Fault(answer=page(REDIRECT, "", "Location: https://a.example/v1/sync?key=SECRET")),
            "redirected to TLS",
            "wss://",
            id="redirect to TLS",
        ),
        pytest.param(
            Fault(answer=page(REDIRECT, "", "Location: /login?key=SECRET")),
            "redirects to /login;",
            "as it is",
            id="redirect",
        ),
        pytest.param(Fault(rewriting("/v1/sync", "/sync")), "rewrites the path", "strip_prefix", id="path"),
        pytest.param(
            Fault(adding("Origin: https://other.example")),
            "an Origin arrives",
            "leave the header",
            id="origin",
        ),
        pytest.param(
            Fault(adding("Authorization: Basic eDp5")),
            "Authorization arrives",
            "leave the header",
            id="login",
        ),
        pytest.param(
            Fault(without("Sec-WebSocket-Protocol")),
            "without the subprotocol",
            "there and back",
            id="subprotocol",
        ),
        pytest.param(
            Fault(response=without("Sec-WebSocket-Protocol")),
            "without the subprotocol",
            "there and back",
            id="subprotocol back",
        ),
        pytest.param(
            Fault(response=rewriting("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x")),
            "not in answer to this",
            "cache",
            id="cached",
        ),
        pytest.param(Fault(holds_back=True), "not answered within", "buffering", id="buffered"),
        pytest.param(Fault(hangs_up=True), "ends before a ping", "both directions", id="hangs up"),
        pytest.param(Fault(silent=True), "No answer from", "firewall", id="silent"),
        pytest.param(Fault(answer=b"220 mail ready\r\n"), "something else than HTTP", "port", id="not HTTP"),
        pytest.param(Fault(answer=b""), "hung up", "port", id="hangs up at once"),
    ],
)
async def test_what_a_proxy_does_wrong(fault: Fault, message: str, advice: str) -> None:
    findings = await look(fault, patience=1, allow_origin=(ORIGIN,))
    finding = findings["public url"]
    assert finding.outcome is Outcome.FAILED
    assert message in finding.message
    assert advice in finding.advice
    assert "SECRET" not in finding.message + finding.advice
    # Of web pages and idle connections nothing can be found out then.
    assert set(findings) <= {"public url", "internal port"}


async def test_the_path_is_another() -> None:
    found = (await look(Fault(), url="ws://127.0.0.1:{port}/sync"))["public url"]
    assert "/sync arrives as a path that is not its endpoint" in found.message


async def test_the_whole_proxy_leads_to_the_internal_port() -> None:
    found = (
        await look(Fault(), internal=lambda daemon: Fault(route=lambda _: daemon.addresses.internal[1]))
    )["public url"]
    assert "leads to the internal port" in found.message


async def test_it_leads_there_by_a_name_that_is_not_allowed() -> None:
    def misled(daemon: Daemon) -> Fault:
        return Fault(
            request=lambda lines: [
                "Host: sync.example.org" if line.lower().startswith("host:") else line for line in lines
            ],
            route=lambda _: daemon.addresses.internal[1],
        )

    findings = await look(Fault(), internal=misled)
    assert "leads to the internal port" in findings["public url"].message
    assert findings["internal port"].outcome is Outcome.FAILED


@pytest.mark.parametrize("target", ["/metrics", "/v1/events"])
@pytest.mark.parametrize("prefix", ["", "/ws"])
async def test_the_internal_port_can_be_reached(target: str, prefix: str) -> None:
    def leaking(daemon: Daemon) -> Fault:
        ports = {f"{prefix}{target}": daemon.addresses.internal[1]}
        public = daemon.addresses.websocket[1]
        return Fault(
            request=lambda lines: [lines[0].replace(f" {prefix}/", " /"), *lines[1:]],
            route=lambda asked: ports.get(asked, public),
        )

    findings = await look(Fault(), internal=leaking, url=f"ws://127.0.0.1:{{port}}{prefix}/v1/sync")
    assert findings["public url"].outcome is Outcome.OK
    finding = findings["internal port"]
    assert finding.outcome is Outcome.FAILED
    assert f": {prefix}{target}." in finding.message


async def test_an_origin_is_refused() -> None:
    fault = Fault(rewriting(ORIGIN, "http://app.example"))
    found = (await look(fault, allow_origin=(ORIGIN,)))["origins"]
    assert (found.outcome, f"{ORIGIN} (HTTP 403)" in found.message) == (Outcome.FAILED, True)


async def test_a_foreign_origin_gets_in() -> None:
    found = (await look(Fault(without("Origin")), allow_origin=(ORIGIN,)))["origins"]
    assert (found.outcome, "foreign" in found.message) == (Outcome.FAILED, True)


async def test_any_origin_gets_in() -> None:
    assert (await look(Fault()))["origins"].outcome is Outcome.WARNING


async def test_idle_connections_are_cut() -> None:
    found = (await look(Fault(idle=0.3), hold=20))["idle"]
    assert (found.outcome, "proxy_read_timeout 75s" in found.advice) == (Outcome.FAILED, True)


async def test_pings_arrive_or_do_not() -> None:
    found = (await look(Fault(), hold=0.5, ping_interval=0.1))["idle"]
    assert found.outcome is Outcome.OK
    assert not found.message.endswith(" 0 pings arrived.")
    quiet = (await look(Fault(), hold=0.3, ping_interval=0.1, token="not a token"))["idle"]
    assert (quiet.outcome, "not a token" in str(quiet)) == (Outcome.FAILED, False)


async def test_nobody_listens() -> None:
    (found,) = [each async for each in check_public(make_settings(), "ws://127.0.0.1:1/v1/sync", 5)]
    assert "Connection refused" in found.message


def tls_of(authority: trustme.CA, *names: str, until: datetime | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names, not_after=until).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("names", "until", "trusted", "message", "advice"),
    [
        (("127.0.0.1",), None, True, "", ""),
        (("10.9.8.7",), None, True, "The certificate is refused", "names 127.0.0.1"),
        (("127.0.0.1",), datetime(2020, 1, 1, tzinfo=UTC), True, "expired", "Renew it"),
        (("127.0.0.1",), None, False, "The certificate is refused", "authority that devices know"),
    ],
    ids=["good", "name", "expired", "authority"],
)
async def test_tls(
    *,
    names: tuple[str, ...],
    until: datetime | None,
    trusted: bool,
    message: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = tls_of(authority, *names, until=until)
    found = (await look(Fault(), url="wss://127.0.0.1:{port}/v1/sync", context=context))["public url"]
    assert message in found.message
    assert advice in found.advice
    assert (found.outcome is Outcome.OK) == (not message)


async def test_no_tls_there() -> None:
    found = (await look(Fault(answer=page("400 Bad Request")), url="wss://127.0.0.1:{port}/"))["public url"]
    assert "does not speak TLS" in found.message


async def test_tls_there_and_a_plain_url() -> None:
    context = tls_of(trustme.CA(), "127.0.0.1")
    found = (await look(Fault(), context=context))["public url"]
    assert found.outcome is Outcome.FAILED
    assert "wss://" in found.advice


async def test_without_tls_outside() -> None:
    async with aclosing(check_public(make_settings(), "ws://sync.example.invalid/v1/sync", 1)) as found:
        first = await anext(found)
    assert (first.outcome, "in the open" in first.message) == (Outcome.WARNING, True)
