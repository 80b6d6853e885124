"""Sockets to listen on, and connections accepted from them."""

import errno
import socket
from pathlib import Path
from typing import cast

import pytest
import trio
import trustme
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.server.listeners import ListenError, address, bind, tls_context
from localful_ws.server.tcp import TcpStream, accept_connections
from localful_ws.settings import SettingsError


@pytest.mark.sockets
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_any_free_port(host: str) -> None:
    with bind(host, 0, setting="port", backlog=5) as listening:
        bound, port = address(listening)
        assert bound in ("127.0.0.1", "::1")
        assert port > 0
        assert not listening.getblocking()


@pytest.mark.sockets
def test_a_port_that_is_taken() -> None:
    with bind("127.0.0.1", 0, setting="port", backlog=5) as listening:
        port = address(listening)[1]
        with pytest.raises(ListenError) as refused:
            bind("127.0.0.1", port, setting="internal-port", backlog=5)
        assert f"127.0.0.1:{port}" in str(refused.value)
        assert "--internal-port" in str(refused.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.0.0.1", "203.0.113.7"])
def test_a_host_that_is_none_of_ours(host: str) -> None:
    with pytest.raises(ListenError) as refused:
        bind(host, 0, setting="port", backlog=5)
    assert host in str(refused.value)


def test_tls(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    assert tls_context(None, None) is None
    assert tls_context(chain, key) is not None
    for wrong in ((chain, chain), (key, key), (tmp_path / "none", key), (chain, tmp_path / "none")):
        with pytest.raises(SettingsError) as refused:
            tls_context(*wrong)
        assert "tls-cert" in str(refused.value)


class FakeListening:
    """A listening socket with a list of what happens: connections, and errors."""

    def __init__(self, *happenings: object) -> None:
        self.happenings = list(happenings)
        self.waits = 0

    async def wait_readable(self, _: object) -> None:
        self.waits += 1
        if not self.happenings:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    def accept(self) -> tuple[socket.socket, object]:
        if not self.happenings:
            raise BlockingIOError
        happening = self.happenings.pop(0)
        if isinstance(happening, BaseException):
            raise happening
        assert isinstance(happening, socket.socket)
        return happening, None


async def accept_all(
    monkeypatch: pytest.MonkeyPatch, *happenings: object
) -> tuple[list[TcpStream], FakeListening]:
    listening = FakeListening(*happenings)
    monkeypatch.setattr(trio.lowlevel, "wait_readable", listening.wait_readable)
    served: list[TcpStream] = []

    async def serve(stream: TcpStream) -> None:
        served.append(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_connections, cast("socket.socket", listening), serve, nursery)
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return served, listening


async def test_all_that_wait_are_accepted(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = [socket.socket() for _ in range(250)]
    served, listening = await accept_all(monkeypatch, *sockets)
    assert [stream.socket for stream in served] == sockets
    assert not any(sock.getblocking() for sock in sockets)
    assert listening.waits < 60
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO])
async def test_a_connection_that_is_lost_before_it_is_accepted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with socket.socket() as first, socket.socket() as second:
        served, _ = await accept_all(monkeypatch, first, OSError(number, "gone"), second)
        assert [stream.socket for stream in served] == [first, second]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOBUFS])
async def test_when_there_are_no_files_left_it_tries_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with socket.socket() as sock, capture_logs() as log:
        served, _ = await accept_all(
            monkeypatch, OSError(number, "no more"), OSError(number, "no more"), sock
        )
        assert [stream.socket for stream in served] == [sock]
    assert [(entry["log_level"], entry["error"]) for entry in log] == [("warning", "no more")] * 2


async def test_an_error_of_the_listener_itself_is_not_hidden(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await accept_all(monkeypatch, OSError(errno.EBADF, "closed"))
    (error,) = caught.value.exceptions
    assert isinstance(error, OSError)


async def test_fewer_are_accepted_while_the_others_are_busy(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at the listener all tasks get their turn."""
    sockets = [socket.socket() for _ in range(60)]
    at_once: list[int] = []

    class BusyListening(FakeListening):
        async def wait_readable(self, _: object) -> None:
            at_once.append(len(self.happenings))
            if not self.happenings:
                await trio.sleep_forever()
            await trio.sleep(0 if len(at_once) < 8 else 1)

    monkeypatch.setattr(FakeListening, "wait_readable", BusyListening.wait_readable)
    listening = BusyListening(*sockets)
    monkeypatch.setattr(trio.lowlevel, "wait_readable", listening.wait_readable)

    async def serve(stream: TcpStream) -> None: ...

    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            await accept_connections(cast("socket.socket", listening), serve, nursery)
    steps = [before - after for before, after in zip(at_once, at_once[1:], strict=False)]
    assert sum(steps) == 60
    assert max(steps) > 5
    assert steps[-2] == 1
    for sock in sockets:
        sock.close()
