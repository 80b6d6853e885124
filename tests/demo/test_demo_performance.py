"""The demo as a whole: with a real daemon, with daemons that fail, and with signals."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import pytest

from localful_ws.demo import DemoError, performance
from localful_ws.demo.daemon import JWT_SECRET, PUBLISHER_KEY, environment
from localful_ws.demo.devices import DemoDevice
from localful_ws.demo.story import ACTORS, Fate, changes

DEMO = (sys.executable, "-m", "localful_ws", "demo", "--terminal")
PATIENCE = 30


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def daemon_pid(output: str) -> int:
    found = re.search(r"process +(\d+)", output)
    assert found, output
    return int(found[1])


def test_demo_with_a_real_daemon() -> None:
    # What the operator has set must not get in the way.
    theirs = {"LOCALFUL_WS_PORT": "nonsense", "LOCALFUL_WS_CONFIG": "/nowhere"}
    done = subprocess.run(
        DEMO, env=os.environ | theirs, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "Every device got what it should, in order, and nothing else." in done.stdout
    assert re.search(r"Ada's laptop +closed with 4403 forbidden", done.stdout)
    assert re.search(r"Ada's phone +closed with 4403 forbidden", done.stdout)
    assert re.search(r"Bob's tablet +closed with 1001 server-shutdown", done.stdout)
    assert re.search(r"the daemon +ended with exit status 0", done.stdout)
    assert done.stdout.count("✓ received") == sum(change.fates.count(Fate.RECEIVED) for change in changes())
    assert not is_alive(daemon_pid(done.stdout))


@contextmanager
def kept_demo() -> Iterator["tuple[subprocess.Popen[str], str]"]:
    """A demo that keeps its daemon, once it has said how to go on."""
    with subprocess.Popen((*DEMO, "--keep"), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "README" in line:
                    break
            yield process, said
        finally:
            process.kill()


def in_shell(*commands: str) -> tuple[str, ...]:
    return ("sh", "-e", "-c", "\n".join(commands))


def test_kept_daemon_is_there_for_the_printed_commands_until_interrupted() -> None:
    with kept_demo() as (demo, said):
        printed = [
            line.strip() for line in said.partition("Go on by hand")[2].splitlines() if "    " in line[:4]
        ]
        exports, (token, listen, publish, own) = printed[:-4], printed[-4:]
        fresh = {name: value for name, value in os.environ.items() if not name.startswith("LOCALFUL_WS_")}
        with subprocess.Popen(
            in_shell(*exports, token, f"exec {listen}"),
            env=fresh,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as device:
            try:
                assert device.stdout is not None
                assert device.stderr is not None
                assert "Connected as user u1" in device.stderr.readline()
                subprocess.run(
                    in_shell(*exports, publish, own, publish),
                    env=fresh,
                    stdout=subprocess.DEVNULL,
                    timeout=PATIENCE,
                    check=True,
                )
                notice, *heard = [json.loads(device.stdout.readline()) for _ in range(3)]
                assert notice["notice"] == "snapshot-needed"
                assert len({event.pop("cursor") for event in (notice, *heard)}) == 3
                assert heard == [{"event": "item-create", "vault": "v1", "data": {"id": 1}}] * 2
            finally:
                # Not SIGINT, which a child of a background job ignores.
                device.terminate()
        demo.send_signal(signal.SIGINT)
        assert demo.stdout is not None
        goodbye = demo.stdout.read()
        assert demo.wait(PATIENCE) == 0
    assert "closed with 1001 server-shutdown" in goodbye
    assert not is_alive(daemon_pid(said))


SILENT_DAEMON = """
import json, os, signal, socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
ports = [listening.getsockname()[1] for listening in sockets]
FIRST
for name, port in zip(("websocket", "internal"), ports):
    print(json.dumps({"event": "listening", "listener": name, "port": port}), file=sys.stderr, flush=True)
THEN
signal.pause()
"""


def silent_daemon(*, first: str = "", then: str = "") -> tuple[str, ...]:
    """A daemon that says where it listens, and does nothing but what it is told to before and after."""
    return (sys.executable, "-c", SILENT_DAEMON.replace("FIRST", first).replace("THEN", then))


async def failure_of(command: tuple[str, ...]) -> BaseException:
    """Play with another daemon, and see how it ends."""
    try:
        await performance.play(command=command)
    except BaseException as error:
        ending = error
        while isinstance(ending, BaseExceptionGroup):
            ending = ending.exceptions[0]
        return ending
    raise AssertionError("The demo did not fail.")


async def test_daemon_that_ends_at_once() -> None:
    error = await failure_of((sys.executable, "-c", "import sys; sys.exit('no room on this machine')"))
    assert isinstance(error, DemoError)
    assert error.exit_code == 1
    assert "status 1" in error.message
    assert "no room on this machine" in error.message


async def test_daemon_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localful_ws.demo.daemon.START_SECONDS", 0.1)
    error = await failure_of((sys.executable, "-c", "import signal; signal.pause()"))
    assert isinstance(error, DemoError)
    assert "does not listen" in error.message


async def test_daemon_that_takes_no_connections() -> None:
    error = await failure_of(silent_daemon(first="[listening.close() for listening in sockets]"))
    assert isinstance(error, DemoError)
    assert error.message.startswith("Ada's laptop can't connect: ")


async def test_signal_ends_it_early(capsys: pytest.CaptureFixture[str]) -> None:
    error = await failure_of(
        silent_daemon(then="kept = sockets[0].accept(); os.kill(os.getppid(), signal.SIGTERM)")
    )
    assert isinstance(error, click.Abort)
    assert not is_alive(daemon_pid(capsys.readouterr().out))


def audience() -> list[DemoDevice]:
    """Three devices that got what they should."""
    devices = [DemoDevice(actor) for actor in ACTORS]
    for index, device in enumerate(devices):
        device.received = [c.delivered() for c in changes() if c.fates[index] is Fate.RECEIVED]
    return devices


def test_check_passes_what_is_right() -> None:
    performance.check(audience())


def test_check_finds_what_is_missing() -> None:
    devices = audience()
    del devices[1].received[0]
    with pytest.raises(DemoError, match=r"Ada's phone did not get user-update\."):
        performance.check(devices)


def test_check_finds_what_is_not_for_a_device() -> None:
    devices = audience()
    devices[2].received.append(changes()[5].delivered())
    with pytest.raises(DemoError, match=r"Bob's tablet got item-create, which is not for it\."):
        performance.check(devices)


@pytest.mark.parametrize("spoil", [list.reverse, lambda received: received.append(received[-1])])
def test_check_finds_another_order_and_repeats(spoil: Callable[[list[dict[str, Any]]], object]) -> None:
    devices = audience()
    spoil(devices[1].received)
    with pytest.raises(DemoError, match="another order"):
        performance.check(devices)


def test_environment_has_only_our_settings() -> None:
    made = environment({"PATH": "/bin", "LOCALFUL_WS_JWKS_URL": "https://elsewhere.example"})
    assert made["PATH"] == "/bin"
    assert "LOCALFUL_WS_JWKS_URL" not in made
    assert made["LOCALFUL_WS_JWT_SECRET"] == JWT_SECRET
    assert made["LOCALFUL_WS_PUBLISHER_KEY"] == PUBLISHER_KEY
