"""The tour in docs/tour.md, followed from its first file to its last step."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from attrs import frozen

from tests.printed import PROGRAM, clean_environment, output_of
from tests.programs import find_program
from tests.redis_server import free_port
from tests.spec_document import ROOT, Block, blocks

pytestmark = pytest.mark.sockets

PATIENCE = 120
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
NAMED = {block.label: block for block in blocks(TOUR) if block.label}


@frozen
class Traveller:
    """Somebody in the folder of the tour, with ports of their own."""

    folder: Path
    ports: Mapping[str, int]

    def here(self, text: str) -> str:
        """What is printed, with our ports and our Python."""
        for printed, ours in self.ports.items():
            text = re.sub(rf"\b{printed}\b", str(ours), text)
        text = text.replace(". .venv/bin/activate\n", "").replace("../localful-ws/", f"{ROOT}/")
        text = PROGRAM.sub(f"{sys.executable} -m localful_ws ", text)
        return re.sub(r"^(python|hypercorn)\b", self._as_module, text, flags=re.MULTILINE)

    def _as_module(self, program: re.Match[str]) -> str:
        return sys.executable + (" -m hypercorn" if program[0] == "hypercorn" else "")

    def save(self, block: Block) -> None:
        (self.folder / block.label).write_text(self.here(block.text))

    async def type(self, name: str, *, then: str = "") -> str:
        """Type commands and wait for their end; returns what they print."""
        commands = f"cd {self.folder}\n{self.here(NAMED[name].text)}\n{then}"
        return await output_of(["sh", "-e", "-c", commands], clean_environment())

    async def note(self, text: str, *, by: str = "laptop") -> None:
        """Write a note."""
        name = "laptop" if by == "laptop" else "as-phone"
        commands = re.sub(r"(?<=-d ')Buy \w+", text, self.here(NAMED[name].text))
        assert text in commands
        assert '"id":' in await output_of(["sh", "-e", "-c", commands], clean_environment())


class Terminal:
    """A command that goes on in a terminal of its own."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._send, self._lines = trio.open_memory_channel[str](1000)

    async def read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await self._send.send(line.decode())

    async def see(self, word: str) -> str:
        """Wait for a line with a word in it; returns the line."""
        while word not in (line := await self._lines.receive()):
            pass
        return line

    async def next_line(self) -> str:
        return await self._lines.receive()

    def assert_silent(self) -> None:
        """Nothing has been printed that was not looked at."""
        with pytest.raises(trio.WouldBlock):
            self._lines.receive_nowait()

    async def press_ctrl_c(self) -> int:
        os.killpg(self._process.pid, signal.SIGINT)
        return await self._process.wait()


@asynccontextmanager
async def terminal(traveller: Traveller, name: str) -> AsyncIterator[Terminal]:
    """Open a terminal and type commands into it; whatever still runs at the end is ended."""
    environment = clean_environment(
        PYTHONUNBUFFERED="1",
        PUBLISH_URL=f"http://127.0.0.1:{traveller.ports['42103']}",
        LOCALFUL_WS_LISTEN_URL=f"ws://127.0.0.1:{traveller.ports['42102']}/v1/sync",
    )
    *before, last = traveller.here(NAMED[name].text).splitlines()
    process = await trio.lowlevel.open_process(
        ["sh", "-e", "-c", "\n".join([*before, f"exec {last}"])],
        cwd=traveller.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    there = Terminal(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.read)
            yield there
            nursery.cancel_scope.cancel()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


async def wait_answering(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                await client.get(url)
            except httpx.TransportError:
                await trio.sleep(0.05)
            else:
                return


async def test_the_tour(tmp_path: Path) -> None:
    find_program("curl")
    ports = {printed: free_port() for printed in ("42102", "42103", "8000")}
    traveller = Traveller(tmp_path, ports)
    files = [block for name, block in NAMED.items() if "." in name]
    assert [block.label for block in files] == ["settings.toml", "backend.py", "phone.py"]
    for block in files:
        traveller.save(block)
    with (tmp_path / "settings.toml").open("a") as settings:
        settings.write(f"port = {ports['42102']}\ninternal-port = {ports['42103']}\ndrain-seconds = 1\n")

    with trio.fail_after(PATIENCE):
        assert "failed" not in await traveller.type("check")
        await traveller.type("copy")
        async with (
            terminal(traveller, "worker") as worker,
            terminal(traveller, "backend"),
        ):
            await wait_answering(f"http://127.0.0.1:{ports['8000']}/")
            async with terminal(traveller, "daemon") as daemon:
                await daemon.see("internal")
                async with terminal(traveller, "phone") as phone:
                    assert await phone.next_line() == "all notes: []"
                    await traveller.type("laptop")
                    assert await phone.next_line() == "new note: Buy tea"
                    async with terminal(traveller, "listen") as laptop:
                        await laptop.see("snapshot-needed")
                        await traveller.note("Buy bread")
                        assert await phone.next_line() == "new note: Buy bread"
                        await traveller.type("as-phone")
                        # It is the first that the laptop hears of, and the phone does not.
                        assert '"item-create"' in await laptop.next_line()
                        await traveller.note("Buy jam")
                        assert await phone.next_line() == "new note: Buy jam"
                        laptop.assert_silent()
                        assert await laptop.press_ctrl_c() == 0
                    assert await phone.press_ctrl_c() == 0
                await traveller.note("First while away")
                await traveller.note("Second while away")
                async with terminal(traveller, "phone") as phone:
                    assert await phone.next_line() == "new note: First while away"
                    assert await phone.next_line() == "new note: Second while away"
                    assert await daemon.press_ctrl_c() == 0
                    await traveller.note("While down")
                    await worker.see("trying again")
                    async with terminal(traveller, "daemon"):
                        notes = ["Buy tea", "Buy bread", "Buy milk", "Buy jam"]
                        notes += ["First while away", "Second while away", "While down"]
                        assert await phone.see("all notes") == f"all notes: {notes}"
            assert await worker.press_ctrl_c() == 0
