"""Sockets to listen on, and connections accepted from them."""

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
import trio
import trustme
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.server.listeners import ListenError, address, bind, reserve, tls_context
from localful_ws.settings import SettingsError
from localful_ws.tcp import TcpStream, accept_connections


@pytest.mark.sockets
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_any_free_port(host: str) -> None:
    if host == "::1":
        try:
            socket.create_server((host, 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("there is no IPv6 here")
    with bind(host, 0, setting="port", backlog=5) as listening:
        bound, port = address(listening)
        assert bound in ("127.0.0.1", "::1")
        assert port > 0
        assert not listening.getblocking()


@pytest.mark.sockets
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_for_several(host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.getaddrinfo(host, 0)[0][0]).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with reserve(host, 0, setting="port") as reserved:
        where = address(reserved)
        assert where[1] > 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)
        with (
            bind(*where, setting="port", backlog=100, shared=True) as one,
            bind(*where, setting="port", backlog=100, shared=True) as other,
        ):
            assert address(one) == address(other) == where
            for _ in range(40):
                socket.create_connection(where).close()
            accepted = [accept_waiting(listening) for listening in (one, other)]
        assert sum(accepted) == 40
        assert min(accepted) > 0


def accept_waiting(listening: socket.socket) -> int:
    """Accept all connections that wait; returns how many."""
    accepted = 0
    with suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            accepted += 1
    return accepted


@pytest.mark.sockets
@pytest.mark.parametrize("shared", [True, False])
def test_a_port_for_several_where_somebody_listens(*, shared: bool) -> None:
    with bind("127.0.0.1", 0, setting="port", backlog=5, shared=shared) as listening:
        port = address(listening)[1]
        with pytest.raises(ListenError) as refused:
            reserve("127.0.0.1", port, setting="internal-port")
        assert f"127.0.0.1:{port}" in str(refused.value)
        assert "--internal-port" in str(refused.value)


@pytest.mark.sockets
def test_a_port_that_was_left_a_moment_ago_may_be_had_for_several() -> None:
    with bind("127.0.0.1", 0, setting="port", backlog=5) as listening:
        where = address(listening)
        with socket.create_connection(where) as client:
            # Who closes first keeps the port for a while (TIME_WAIT).
            listening.accept()[0].close()
            assert client.recv(1) == b""
    with (
        reserve(*where, setting="port"),
        bind(*where, setting="port", backlog=5, shared=True) as listening,
    ):
        assert address(listening) == where


@pytest.mark.sockets
def test_a_port_that_is_taken() -> None:
    with bind("127.0.0.1", 0, setting="port", backlog=5) as listening:
        port = address(listening)[1]
        with pytest.raises(ListenError) as refused:
            bind("127.0.0.1", port, setting="internal-port", backlog=5)
        assert f"127.0.0.1:{port}" in str(refused.value)
        assert "--internal-port" in str(refused.value)


def test_an_address_that_is_none_of_ours() -> None:
    with pytest.raises(ListenError) as refused:
        bind("203.0.113.7", 0, setting="port", backlog=5)
    assert "203.0.113.7" in str(refused.value)
    assert "--host" in str(refused.value)


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ListenError) as refused:
        bind("no.such.host", 0, setting="internal-port", backlog=5)
    assert "no.such.host" in str(refused.value)
    assert "not known" in str(refused.value)
    assert "--internal-host" in str(refused.value)


def test_a_port_that_only_root_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_server(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", create_server)
    with pytest.raises(ListenError, match="--port to one from 1024 on"):
        bind("127.0.0.1", 443, setting="port", backlog=5)


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
    """A listening socket with a list of what happens: connections, and errors.

    Attributes:
        happenings: What is still to happen.
        round_seconds: How long all other tasks take between two looks at it.
        rounds: How much happened in each round.
    """

    def __init__(self, *happenings: object) -> None:
        self.happenings = list(happenings)
        self.round_seconds = 0.0
        self.rounds: list[int] = []

    async def wait_readable(self, _: object) -> None:
        self.rounds.append(0)
        if not self.happenings:
            await trio.sleep_forever()
        await trio.sleep(self.round_seconds)

    def accept(self) -> tuple[socket.socket, object]:
        if not self.happenings:
            raise BlockingIOError
        self.rounds[-1] += 1
        happening = self.happenings.pop(0)
        if isinstance(happening, BaseException):
            raise happening
        assert isinstance(happening, socket.socket)
        return happening, None


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    sockets = [socket.socket() for _ in range(250)]
    yield sockets
    for sock in sockets:
        sock.close()


async def accept_all(monkeypatch: pytest.MonkeyPatch, listening: FakeListening) -> list[socket.socket]:
    """Accept until nothing more happens; returns what was accepted, in any order."""
    monkeypatch.setattr(trio.lowlevel, "wait_readable", listening.wait_readable)
    served: list[socket.socket] = []

    async def serve(stream: TcpStream) -> None:
        served.append(stream.socket)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_connections, cast("socket.socket", listening), serve, nursery)
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    return served


async def test_all_that_wait_are_accepted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]
) -> None:
    listening = FakeListening(*sockets)
    assert set(await accept_all(monkeypatch, listening)) == set(sockets)
    assert not any(sock.getblocking() for sock in sockets)
    assert len(listening.rounds) < 50


async def test_few_are_accepted_at_a_time_while_the_others_are_busy(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket]
) -> None:
    listening = FakeListening(*sockets)
    listening.round_seconds = 0.5
    assert set(await accept_all(monkeypatch, listening)) == set(sockets)
    assert max(listening.rounds) == 1


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETUNREACH, errno.ETIMEDOUT])
async def test_a_connection_that_is_lost_before_it_is_accepted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket], number: int
) -> None:
    listening = FakeListening(sockets[0], OSError(number, "gone"), sockets[1])
    assert set(await accept_all(monkeypatch, listening)) == set(sockets[:2])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOBUFS])
async def test_when_there_are_no_files_left_it_tries_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket], number: int
) -> None:
    listening = FakeListening(OSError(number, "no more"), OSError(number, "no more"), sockets[0])
    with capture_logs() as log:
        assert await accept_all(monkeypatch, listening) == [sockets[0]]
    assert [(entry["log_level"], entry["error"]) for entry in log] == [("warning", "no more")] * 2


async def test_an_error_of_the_listener_itself_is_not_hidden(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await accept_all(monkeypatch, FakeListening(OSError(errno.EBADF, "closed")))
    (error,) = caught.value.exceptions
    assert isinstance(error, OSError)
