"""What can be seen on this machine: settings, ports, open files, TLS files and keys."""

import os
import resource
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme

from localful_ws.checks import CheckOptions, Finding, Outcome, run_checks
from localful_ws.checks.keys import check_tls_files, check_tokens
from localful_ws.checks.system import check_open_files, check_ports, find_holder
from localful_ws.demo.daemon import running_daemon
from localful_ws.settings import Settings
from tests.printed import clean_environment
from tests.redis_server import free_port
from tests.world import make_settings

KEY = "a-publisher-key-that-nobody-may-see"
SECRET = "a-shared-secret-that-nobody-may-ever-see"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def by_check(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def on(port: int, **changes: object) -> Settings:
    return make_settings(port=port, internal_port=0, **changes)


def test_free_ports() -> None:
    port = free_port()
    findings = by_check(check_ports(on(port)))
    assert findings["port"] == Finding("port", Outcome.OK, f"127.0.0.1:{port} is free.")
    assert findings["internal-port"].outcome is Outcome.OK
    assert "Any free port" in findings["internal-port"].message


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_somebody_holds(*, shared: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=shared) as sock:
        port = sock.getsockname()[1]
        holder = find_holder(port)
        assert holder is not None
        assert holder.pid == os.getpid()
        finding = by_check(check_ports(on(port)))["port"]
    assert finding.outcome is Outcome.FAILED
    assert f"127.0.0.1:{port} is held by {holder.program}, process {os.getpid()} of user" in finding.message
    assert "Set --port" in finding.advice


async def test_ports_that_a_daemon_holds() -> None:
    async with running_daemon() as daemon:
        settings = make_settings(port=daemon.websocket_port, internal_port=daemon.internal_port)
        findings = by_check(check_ports(settings))
    for name in ("port", "internal-port"):
        assert findings[name].outcome is Outcome.OK
        assert "held by a localful-ws that runs" in findings[name].message
        assert f"process {daemon.pid} " in findings[name].message


def test_nobody_holds_a_free_port() -> None:
    assert find_holder(free_port()) is None


def test_an_address_that_is_not_here() -> None:
    finding = by_check(check_ports(on(1, host="192.0.2.1")))["port"]
    assert (finding.outcome, "--host" in finding.advice) == (Outcome.FAILED, True)


def test_the_internal_port_for_everybody() -> None:
    finding = by_check(check_ports(make_settings(port=0, internal_port=0, internal_host="0.0.0.0")))
    assert finding["internal-host"].outcome is Outcome.WARNING


def test_the_internal_port_by_any_name() -> None:
    def finding(*names: str) -> Finding | None:
        return by_check(check_ports(make_settings(port=0, internal_port=0, allow_host=names))).get(
            "allow-host"
        )

    found = finding("ws.internal", "*")
    assert found is not None
    assert found.outcome is Outcome.WARNING
    assert finding("ws.internal") is None


@pytest.mark.parametrize(
    ("internal", "outcome", "devices"),
    [(128, Outcome.OK, 19_744), (1_128, Outcome.OK, 18_744), (19_872, Outcome.FAILED, 0)],
)
def test_files_for_the_internal_port(
    internal: int, outcome: Outcome, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 20_000))
    settings = make_settings(max_internal_connections=internal)
    finding = by_check(check_open_files(settings, given=False))["open files"]
    assert (finding.outcome, f" {devices} devices" in finding.message) == (outcome, True)


@pytest.mark.parametrize(
    ("limit", "wanted", "outcome"),
    [
        (20_000, None, Outcome.OK),
        (20_000, 19_744, Outcome.OK),
        (20_000, 19_745, Outcome.FAILED),
        (1024, None, Outcome.WARNING),
        (1024, 500, Outcome.OK),
        (resource.RLIM_INFINITY, 900_000, Outcome.OK),
    ],
)
def test_open_files(
    limit: int, wanted: int | None, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, limit))
    settings = make_settings() if wanted is None else make_settings(max_connections=wanted)
    finding = by_check(check_open_files(settings, given=wanted is not None))["open files"]
    assert finding.outcome is outcome
    assert ("LimitNOFILE" in finding.advice) == (outcome is not Outcome.OK)


def test_a_backlog_that_the_kernel_cuts() -> None:
    findings = by_check(check_open_files(make_settings(backlog=2**30), given=True))
    assert findings["backlog"].outcome is Outcome.WARNING


class Files:
    """A certificate and its key in files."""

    def __init__(self, directory: Path, until: datetime = NOW + timedelta(days=90)) -> None:
        leaf = trustme.CA().issue_cert("sync.example.org", not_after=until)
        self.certificate, self.key = directory / "chain.pem", directory / "key.pem"
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.write_bytes(leaf.private_key_pem.bytes())
        self.key.chmod(0o600)

    def look(self) -> dict[str, Finding]:
        settings = make_settings(tls_cert=self.certificate, tls_key=self.key)
        return by_check(check_tls_files(settings, NOW))


def test_tls_files_that_are_good(tmp_path: Path) -> None:
    findings = Files(tmp_path).look()
    assert {finding.outcome for finding in findings.values()} == {Outcome.OK}
    assert "2026-04-01, for sync.example.org" in findings["tls-cert"].message


@pytest.mark.parametrize(
    ("days", "outcome", "word"),
    [(-1, Outcome.FAILED, "ended on"), (5, Outcome.WARNING, "ends on"), (90, Outcome.OK, "valid until")],
)
def test_dates(days: int, outcome: Outcome, word: str, tmp_path: Path) -> None:
    finding = Files(tmp_path, NOW + timedelta(days=days)).look()["tls-cert"]
    assert (finding.outcome, word in finding.message) == (outcome, True)


def test_the_key_of_another_certificate(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.key.write_bytes(trustme.CA().issue_cert("x.example").private_key_pem.bytes())
    finding = files.look()["tls-key"]
    assert (finding.outcome, "not that of the first" in finding.message) == (Outcome.FAILED, True)


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.key.write_text("nothing")
    assert files.look()["tls-key"].outcome is Outcome.FAILED
    files.certificate.write_text("nothing")
    assert files.look()["tls-cert"].outcome is Outcome.FAILED


def test_a_key_that_everybody_can_read(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.key.chmod(0o644)
    assert files.look()["tls-key"].outcome is Outcome.WARNING


async def look_at_tokens(settings: Settings) -> Finding:
    (finding,) = [finding async for finding in check_tokens(settings, 5)]
    return finding


async def test_a_secret() -> None:
    assert (await look_at_tokens(make_settings())).outcome is Outcome.OK


async def test_a_public_key_that_is_none() -> None:
    wrong = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    finding = await look_at_tokens(make_settings(jwt_secret=None, jwt_public_key=wrong))
    assert finding.outcome is Outcome.FAILED


JWK = '{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'


@pytest.mark.parametrize(
    ("answer", "outcome", "word"),
    [
        (httpx.Response(200, text=f'{{"keys":[{JWK}]}}'), Outcome.OK, "1 usable key."),
        (httpx.Response(200, text='{"keys":[]}'), Outcome.FAILED, "No key set"),
        (httpx.Response(404), Outcome.FAILED, "HTTP 404"),
        (httpx.Response(200, content=b" " * 2_000_000), Outcome.FAILED, "larger than"),
        (httpx.ConnectError("Connection refused"), Outcome.FAILED, "Connection refused"),
    ],
)
async def test_a_key_set(
    answer: httpx.Response | Exception, outcome: Outcome, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(
        "localful_ws.checks.keys.make_http_client",
        lambda: httpx.AsyncClient(transport=httpx.MockTransport(reply)),
    )
    url = "https://me:PASSWORD@api.example/keys?key=PASSWORD"
    finding = await look_at_tokens(make_settings(jwt_secret=None, jwks_url=url))
    assert (finding.outcome, word in finding.message) == (outcome, True)
    assert "api.example" in finding.message
    assert "PASSWORD" not in str(finding)


async def everything(**environment: str) -> list[Finding]:
    return [each async for each in run_checks({}, clean_environment(**environment), CheckOptions())]


async def test_settings_that_are_missing_end_it() -> None:
    (finding,) = await everything()
    assert (finding.check, finding.outcome) == ("settings", Outcome.FAILED)
    assert "publisher-key is missing" in finding.message


async def test_too_many_connections_are_no_wrong_setting() -> None:
    findings = await everything(
        LOCALFUL_WS_PUBLISHER_KEY=KEY,
        LOCALFUL_WS_JWT_SECRET=SECRET,
        LOCALFUL_WS_PORT="0",
        LOCALFUL_WS_INTERNAL_PORT="0",
        LOCALFUL_WS_MAX_CONNECTIONS="99999999",
    )
    failed = [finding.check for finding in findings if finding.outcome is Outcome.FAILED]
    assert failed == ["open files"]
