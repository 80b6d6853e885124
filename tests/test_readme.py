"""The README says what is so: its settings, its commands, and its tour, which is run as it is printed."""

import re
import shutil

import httpx
import pytest
import trio
from printed import LongRunning, clean_environment, for_python, for_shell, output_of, with_ports
from spec_document import ROOT, blocks

from localful_ws.cli import main
from localful_ws.demo.daemon import DaemonProcess, running_daemon
from localful_ws.settings import settings_table

README = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE = 30


def section(title: str) -> str:
    """The text below a heading of the second level."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_settings_table_is_current() -> None:
    written = re.search(
        r"<!-- settings: .*? -->\n(?P<table>.*)<!-- end of settings -->", section("Settings"), re.DOTALL
    )
    assert written
    assert written["table"] == settings_table()


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
        while wanted not in (await client.get(f"http://127.0.0.1:{daemon.internal_port}/metrics")).text:
            pass


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_tour_as_it_is_printed() -> None:
    printed = [block for block in blocks(section("Five minutes")) if block.language in ("sh", "python")]
    assert [block.language for block in printed] == ["sh", "sh", "python", "python", "sh"]
    serve, mint, device_of_websockets, device_of_ours, publish = [block.text for block in printed]
    with trio.fail_after(PATIENCE):
        async with running_daemon(for_shell(serve)) as daemon, trio.open_nursery() as nursery:
            token = (await output_of(for_shell(mint), clean_environment())).strip()
            devices = [
                LongRunning(for_python(with_ports(text, daemon)), clean_environment(LOCALFUL_WS_TOKEN=token))
                for text in (device_of_websockets, device_of_ours)
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

            assert "'event': 'authenticated'" in await devices[0].next_line()
            # The last one only, at both.
            event = "{'event': 'item-create', 'vault': 'v1', 'data': {'id': 'i1'}}"
            assert await devices[0].next_line() == event
            assert await devices[1].next_line() == "item-create v1 {'id': 'i1'}"
            nursery.cancel_scope.cancel()
