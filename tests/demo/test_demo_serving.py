"""The demo in a browser, as a program: its address, its port, its ends. The page itself: tests/browser."""

import re
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click
import httpx
import pytest
import trio
from click.testing import CliRunner

from localful_ws.cli import main
from localful_ws.demo import DemoError, serving

DEMO = (sys.executable, "-m", "localful_ws", "demo")
PATIENCE = 30
# Says where it listens, and ends after a line on its standard input, which is empty.
SHORT_LIVED = """
import json, sys
for name in ("websocket", "internal"):
    print(json.dumps({"event": "listening", "listener": name, "port": 1}), file=sys.stderr, flush=True)
sys.exit("no memory left")
"""


@contextmanager
def running(*options: str) -> Iterator["tuple[subprocess.Popen[str], str]"]:
    """A demo, once it has printed how to go on."""
    with subprocess.Popen((*DEMO, *options), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            yield process, said
        finally:
            # Not killed: it would leave its daemon behind.
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def is_alive(pid: int) -> bool:
    return subprocess.run(["kill", "-0", str(pid)], capture_output=True, check=False).returncode == 0


def find(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    assert found, said
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_signal_comes(number: signal.Signals) -> None:
    with running("--port", "0") as (process, said):
        url = find(r"the page +(http://127\.0\.0\.1:\d+/)", said)
        daemon = int(find(r"process (\d+)", said))
        page = httpx.get(url, trust_env=False)
        assert "<title>Localful WebSocket server" in page.text
        config = httpx.get(f"{url}config.json", trust_env=False).json()
        assert config["websocketUrl"] == find(r"devices +(ws\S+)", said)
        # Its devices may connect there, and to nowhere else.
        origin = config["websocketUrl"].removesuffix("/v1/sync")
        assert f"connect-src 'self' {origin};" in page.headers["Content-Security-Policy"]
        assert is_alive(daemon)
        process.send_signal(number)
        assert process.stdout is not None
        assert "The demo has ended." in process.stdout.read()
        assert process.wait(PATIENCE) == 0
    assert not is_alive(daemon)


async def failure_of(**options: object) -> DemoError:
    with pytest.raises((DemoError, BaseExceptionGroup)) as raised, trio.fail_after(PATIENCE):
        await serving.serve_page(**options)  # type: ignore[arg-type]
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DemoError)
    return error


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = await failure_of(port=port)
    assert error.message.startswith(f"Port {port} can't be had: address already in use.")
    assert "--port 0" in error.message


async def opened_page(monkeypatch: pytest.MonkeyPatch, **options: object) -> str:
    """Serve in this process until a browser is opened; gives the address that it is opened with."""
    opened: list[str] = []
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def fake(url: str) -> bool:
        opened.append(url)
        token.run_sync_soon(done.set)
        return True

    monkeypatch.setattr(webbrowser, "open", fake)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serving.serve_page, open_browser=True, **options))  # type: ignore[arg-type]
            await done.wait()
            nursery.cancel_scope.cancel()
    (url,) = opened
    return url


async def test_the_usual_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(serving, "PORT", port)
        url = httpx.URL(await opened_page(monkeypatch))
    assert url.host == "127.0.0.1"
    assert url.port != port


async def test_it_opens_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert await opened_page(monkeypatch, port=port) == f"http://127.0.0.1:{port}/"


async def test_where_no_browser_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    said = trio.Event()

    def echo(message: object = None, **_: object) -> None:
        if "open the address yourself" in str(message):
            said.set()

    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    monkeypatch.setattr(click, "echo", echo)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serving.serve_page, port=0, open_browser=True))
            await said.wait()
            nursery.cancel_scope.cancel()


async def test_a_daemon_that_ends() -> None:
    error = await failure_of(port=0, command=(sys.executable, "-c", SHORT_LIVED))
    assert error.message.startswith("The daemon ended, and with it the demo. Its status was 1.")
    assert "no memory left" in error.message


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--keep"], "--keep is for --terminal"),
        (["--terminal", "--open"], "--terminal does without"),
        (["--terminal", "--port", "0"], "--terminal does without"),
        (["--port", "65536"], "65536"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, ["demo", *options])
    assert result.exit_code == 2
    assert complaint in result.output
