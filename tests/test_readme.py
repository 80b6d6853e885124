"""The README says what is so: its commands, and its tour, which is run as it is printed."""

import re
import sys

import httpx
import pytest
import trio

from localful_ws.cli import main
from localful_ws.demo.daemon import DaemonProcess, running_daemon
from tests.printed import LongRunning, clean_environment, for_python, for_shell, output_of, with_ports
from tests.programs import find_program
from tests.redis_server import RedisServer
from tests.spec_document import ROOT, blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE = 90


def section(title: str) -> str:
    """The text below a heading of the second level."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_command_is_listed() -> None:
    listed = re.findall(r"^\| `localful-ws (\w+)", section("Commands"), re.MULTILINE)
    assert set(listed) == set(main.commands)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_there(target: str) -> None:
    assert re.search(rf"^make {target}\b", section("Two commands"), re.MULTILINE)
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


async def wait_authenticated(daemon: DaemonProcess, devices: int) -> None:
    """Wait until the metrics of a daemon show that so many devices are authenticated."""
    wanted = f'localful_ws_connections{{state="authenticated"}} {devices:.1f}\n'
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = f"http://127.0.0.1:{daemon.internal_port}/metrics"
        while wanted not in (await client.get(metrics)).text:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.05)


def on_asyncio(program: str) -> str:
    """The program for Trio, changed as the README says."""
    changes = re.findall(r"say `(.*?)`, and `(.*?)` at the end", README)
    ((imports, run),) = changes
    for old, new in (("import os, trio", imports), ("trio.run(main)", run)):
        assert program.count(old) == 1
        program = program.replace(old, new)
    return program


async def test_the_tour_as_it_is_printed() -> None:
    find_program("curl")
    printed = [block for block in blocks(section("Five minutes")) if block.language in ("sh", "python")]
    assert [block.language for block in printed] == ["sh", "sh", "python", "python", "sh", "sh"]
    serve, mint, device_of_websockets, device_of_ours, publish, _ = [block.text for block in printed]
    with trio.fail_after(PATIENCE):
        async with running_daemon(for_shell(serve)) as daemon, trio.open_nursery() as nursery:
            token = (await output_of(for_shell(mint), clean_environment())).strip()
            devices = [
                LongRunning(for_python(with_ports(text, daemon)), clean_environment(LOCALFUL_WS_TOKEN=token))
                for text in (device_of_websockets, device_of_ours, on_asyncio(device_of_ours))
            ]
            for device in devices:
                await nursery.start(device.run)
            await wait_authenticated(daemon, len(devices))

            publish = with_ports(publish, daemon)
            own_change = publish.replace('"vault"', '"group": "laptop", "vault"')
            elsewhere = publish.replace('"v1"', '"v2"')
            assert len({publish, own_change, elsewhere}) == 3
            for commands in (own_change, elsewhere, publish):
                assert await output_of(for_shell(commands), clean_environment()) == '{"accepted":1}'
            with_id = publish.replace('"vault"', '"id": "c1", "vault"')
            for answer in ('{"accepted":1}', '{"accepted":0,"duplicates":1}'):
                assert await output_of(for_shell(with_id), clean_environment()) == answer

            assert "'event': 'authenticated'" in await devices[0].next_line()
            for device in devices[1:]:
                assert await device.next_line() == "fetch all of v1"
            # The last one only, and the one with an id once, at both.
            for _ in range(2):
                event = "{'event': 'item-create', 'vault': 'v1', 'data': {'id': 'i1'}, 'cursor': '"
                assert (await devices[0].next_line()).startswith(event)
                for device in devices[1:]:
                    assert await device.next_line() == "item-create v1 {'id': 'i1'}"
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_more_processes_as_they_are_printed(redis_server: RedisServer, redis_prefix: str) -> None:
    find_program("curl")
    printed = [block.text for block in blocks(section("Five minutes")) if block.language == "sh"]
    mint, publish, serve = printed[1], *printed[2:]
    here = serve.replace("redis://127.0.0.1:6379/0", redis_server.url)
    assert here != serve
    here = here.rstrip() + f" --redis-prefix {redis_prefix}\n"
    with trio.fail_after(PATIENCE):
        async with running_daemon(for_shell(here)) as daemon, trio.open_nursery() as nursery:
            token = (await output_of(for_shell(mint), clean_environment())).strip()
            listen = [sys.executable, "-m", "localful_ws", "listen", "--vault", "v1"]
            url = f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync"
            devices = [
                LongRunning([*listen, "--url", url], clean_environment(LOCALFUL_WS_TOKEN=token))
                for _ in range(4)
            ]
            for device in devices:
                await nursery.start(device.run)
            await wait_authenticated(daemon, len(devices))
            said = await output_of(for_shell(with_ports(publish, daemon)), clean_environment())
            assert said == '{"accepted":1}'
            for device in devices:
                while '"item-create"' not in await device.next_line():
                    pass
            nursery.cancel_scope.cancel()
