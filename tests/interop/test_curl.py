"""curl publishes in all the ways it has."""

import json
import re
import subprocess
from typing import Any

import pytest
from attrs import frozen

from tests.end_to_end.process import TIMEOUT, DaemonProcess
from tests.interop.publishing import AUTHORIZATION, BODY, LARGE, TOO_LARGE, WRONG, accepted, publish_url
from tests.programs import find_program

pytestmark = pytest.mark.sockets

EMPTY_REPLY = 52
CONNECT_REFUSED = 56
NO_EXPECT = ("-H", "Expect:")
CHUNKED = ("-H", "Transfer-Encoding: chunked", "-X", "POST", "-T", "-")
UPLOAD = ("--data-binary", "@-")


@frozen
class Ran:
    """How curl ended.

    Attributes:
        status: Its exit status.
        transfers: What it tells of each transfer.
        printed: All it has printed.
    """

    status: int
    transfers: list[dict[str, Any]]
    printed: str

    def of_all(self, key: str) -> list[Any]:
        return [transfer[key] for transfer in self.transfers]


def curl(*arguments: str, key: str = AUTHORIZATION, body: bytes = b"") -> Ran:
    """Run it, with what it is to send on its standard input."""
    command = [find_program("curl"), "--noproxy", "*", "-sS", "-v", "-w", "\n%{json}\n"]
    done = subprocess.run(
        [*command, "-H", f"Authorization: {key}", *arguments],
        input=body,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    told = [json.loads(line) for line in lines if '"num_connects"' in line]
    return Ran(done.returncode, told, done.stdout.decode() + done.stderr.decode())


def test_one_connection_for_many(daemon: DaemonProcess) -> None:
    before = accepted(daemon)
    ran = curl(*UPLOAD, *[publish_url(daemon)] * 3, body=BODY)
    assert ran.of_all("response_code") == [202, 202, 202]
    assert ran.of_all("num_connects") == [1, 0, 0]
    assert accepted(daemon) == before + 3


def test_many_at_once(daemon: DaemonProcess) -> None:
    before = accepted(daemon)
    parallel = ("--parallel", "--parallel-immediate", "--parallel-max", "50")
    ran = curl(*parallel, "-d", BODY.decode(), *[publish_url(daemon)] * 200)
    assert ran.of_all("response_code") == [202] * 200
    assert accepted(daemon) == before + 200


def test_waits_to_be_asked_for_a_large_body(daemon: DaemonProcess) -> None:
    before = accepted(daemon)
    ran = curl(*UPLOAD, publish_url(daemon), body=LARGE)
    assert ran.of_all("response_code") == [202]
    assert "> Expect: 100-continue" in ran.printed
    assert "< HTTP/1.1 100 Continue" in ran.printed
    assert "Done waiting for 100-continue" not in ran.printed
    assert accepted(daemon) == before + 1


@pytest.mark.parametrize(
    ("key", "body", "status"), [(WRONG, LARGE, 401), (AUTHORIZATION, TOO_LARGE, 413)], ids=["key", "size"]
)
def test_is_refused_before_it_sends(daemon: DaemonProcess, key: str, body: bytes, status: int) -> None:
    ran = curl(*UPLOAD, publish_url(daemon), key=key, body=body)
    assert ran.of_all("response_code") == [status]
    assert ran.of_all("size_upload") == [0]
    assert "100 Continue" not in ran.printed


@pytest.mark.parametrize("way", [(*UPLOAD, *NO_EXPECT), (*CHUNKED, *NO_EXPECT)], ids=["plain", "chunked"])
@pytest.mark.parametrize(
    ("key", "body", "status"),
    [(AUTHORIZATION, LARGE, 202), (WRONG, LARGE, 401), (AUTHORIZATION, TOO_LARGE, 413)],
    ids=["right", "key", "size"],
)
def test_sends_a_large_body_unasked_and_sees_the_answer(
    daemon: DaemonProcess, way: tuple[str, ...], key: str, body: bytes, status: int
) -> None:
    ran = curl(*way, publish_url(daemon), key=key, body=body)
    assert (ran.status, ran.of_all("response_code")) == (0, [status])


def test_head(daemon: DaemonProcess) -> None:
    origin = publish_url(daemon).removesuffix("/v1/events")
    # Were a body sent after the heads, curl would take it for the next answer.
    ran = curl("--head", f"{origin}/healthz", f"{origin}/metrics", f"{origin}/v1/events", f"{origin}/none")
    assert ran.of_all("response_code") == [200, 200, 405, 404]
    assert ran.of_all("num_connects") == [1, 0, 0, 0]
    lengths = [int(length) for length in re.findall(r"^< content-length: (\d+)", ran.printed, re.MULTILINE)]
    assert len(lengths) == 4
    assert all(lengths)


@pytest.mark.parametrize(("more", "connects"), [((), [1, 1]), (("-H", "Connection: keep-alive"), [1, 0])])
def test_http_1_0(daemon: DaemonProcess, more: tuple[str, ...], connects: list[int]) -> None:
    ran = curl("--http1.0", *more, "-d", BODY.decode(), *[publish_url(daemon)] * 2)
    assert ran.of_all("response_code") == [202, 202]
    assert ran.of_all("num_connects") == connects


def test_http_2_at_once_is_refused(daemon: DaemonProcess) -> None:
    ran = curl("--http2-prior-knowledge", "-d", BODY.decode(), publish_url(daemon))
    assert ran.status == EMPTY_REPLY, ran.printed


@pytest.mark.parametrize("body", [b"", BODY, LARGE], ids=["none", "small", "large"])
def test_http_2_if_you_like_is_answered_in_http_1_1(daemon: DaemonProcess, body: bytes) -> None:
    before = accepted(daemon)
    ran = curl("--http2", *NO_EXPECT, *UPLOAD, *[publish_url(daemon)] * 2, body=body)
    assert "> Upgrade: h2c" in ran.printed
    # curl asks once for each connection.
    assert ran.of_all("response_code") == [202 if body else 400] * 2
    assert ran.of_all("http_version") == ["1.1", "1.1"]
    assert accepted(daemon) == before + (2 if body else 0)


def test_through_it_as_if_it_were_a_proxy(daemon: DaemonProcess) -> None:
    origin = publish_url(daemon).removesuffix("/v1/events")
    proxied = ("--noproxy", "", "--proxy", origin)
    # The absolute form means what the origin form does; the name in it counts as the header Host does.
    assert curl(*proxied, "-d", BODY.decode(), "http://api.example/v1/events").of_all("response_code") == [
        202
    ]
    foreign = curl(*proxied, "http://api.example/healthz", key="")
    assert foreign.of_all("response_code") == [421]
    # Nor does it connect anybody.
    tunnel = curl(*proxied, "--proxytunnel", "http://127.0.0.1/healthz")
    assert tunnel.status == CONNECT_REFUSED, tunnel.printed
    assert tunnel.of_all("http_connect") == [404], tunnel.printed


@pytest.mark.parametrize("target", ["/v1/events", "http://127.0.0.1/v1/events", "/v1/events?as=ever"])
def test_other_targets_for_the_same(daemon: DaemonProcess, target: str) -> None:
    ran = curl("--request-target", target, "-d", BODY.decode(), publish_url(daemon))
    assert ran.of_all("response_code") == [202]


def test_options_of_the_whole_server(daemon: DaemonProcess) -> None:
    ran = curl("-X", "OPTIONS", "--request-target", "*", publish_url(daemon))
    assert ran.of_all("response_code") == [404]
