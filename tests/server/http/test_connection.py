"""Requests of one connection after the other, on sockets in memory and a virtual clock."""

from functools import partial
from itertools import groupby

import pytest
from starlette.types import Receive, Scope, Send
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.http.serving import (
    GET,
    Answer,
    answering,
    echo,
    get,
    open_client,
    open_server,
    post,
    respond,
)


class TestRequests:
    async def test_the_scope(self, autojump_clock: MockClock) -> None:
        scopes = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await respond(send)

        async with open_client(app, get("/a%20b?c=%20", "X: Y")) as client:
            await client.answer()
        (scope,) = scopes
        assert {key: value for key, value in scope.items() if key not in ("asgi", "client", "server")} == {
            "type": "http",
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
            "method": "GET",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"c=%20",
            "headers": [(b"host", b"a"), (b"x", b"Y")],
        }

    @pytest.mark.parametrize("step", [1, 1_000_000])
    async def test_pipelined_with_bodies(self, autojump_clock: MockClock, step: int) -> None:
        sent = (post(b"one", path="/1") + get("/2") + post(b"three", path="/3")) * 20
        async with open_client(echo, *(sent[at : at + step] for at in range(0, len(sent), step))) as client:
            for _ in range(20):
                for body in (b"POST /1 one", b"GET /2 ", b"POST /3 three"):
                    assert (await client.answer()).body == body

    async def test_a_large_body_comes_in_parts(self, autojump_clock: MockClock) -> None:
        sizes = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (message := await receive())["more_body"]:
                sizes.append(len(message["body"]))
            await respond(send, b"%d" % (sum(sizes) + len(message["body"])))

        async with open_client(app, post(b"x" * 1_000_000)) as client:
            assert (await client.answer()).body == b"1000000"
        assert max(sizes) <= 65536

    async def test_a_body_that_nobody_takes_is_no_reason_to_end(self, autojump_clock: MockClock) -> None:
        app = answering(partial(respond, body=b"hi"))
        async with open_client(app, post(b"x" * 100) + GET) as client:
            for _ in range(2):
                assert (await client.answer()).headers == {"content-length": "2"}

    async def test_many_at_once_let_others_run(self, autojump_clock: MockClock) -> None:
        """After each answer of one client all others have their turn."""
        served = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            served.append(scope["path"])
            await respond(send)

        paths = [f"/{number}" for number in range(128)]
        async with open_server(app) as serving:
            clients = [await serving.connect() for _ in paths]
            for client, path in zip(clients, paths, strict=True):
                client.sock.feed(get(path) * 50)
            await wait_all_tasks_blocked()
        assert sorted(served[:128]) == sorted(paths)
        assert len(served) == 128 * 50
        assert max(len(list(run)) for _, run in groupby(served)) <= 2


class TestExpecting:
    async def test_the_body_is_asked_for(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, post(b"", "Expect: 100-continue", length=5)) as client:
            assert await client.answer() == Answer(100, {}, b"")
            await client.send(b"he", b"llo")
            assert (await client.answer()).body == b"POST / hello"
            await client.send(GET)
            assert (await client.answer()).body == b"GET / "

    async def test_it_is_not_asked_for_if_it_has_come(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, post(b"he", "Expect: 100-continue", length=5)) as client:
            await client.send(b"llo")
            assert (await client.answer()).body == b"POST / hello"

    async def test_it_is_not_asked_for_if_nobody_wants_it(self, autojump_clock: MockClock) -> None:
        app = answering(partial(respond, status=413))
        async with open_client(app, post(b"", "Expect: 100-continue", length=5)) as client:
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
