"""The commands at the end of the demo are commands of this program."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from localful_ws.cli import main
from localful_ws.demo import by_hand


@pytest.fixture
def environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment, as far as finding the program in it goes, in the current directory."""
    script = tmp_path / ".venv" / "bin" / "localful-ws"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    return script


def test_program_in_a_virtual_environment_below_here(environment_of_its_own: Path) -> None:
    assert by_hand.program_here() == ".venv/bin/localful-ws"


def test_program_elsewhere(environment_of_its_own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert by_hand.program_here() == shlex.quote(str(environment_of_its_own.relative_to("/")))


def test_program_on_the_path(environment_of_its_own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment_of_its_own.parent))
    assert by_hand.program_here() == "localful-ws"


def test_another_program_of_that_name_on_the_path(
    environment_of_its_own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "localful-ws"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert by_hand.program_here() == ".venv/bin/localful-ws"


def test_program_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/with space/python3")
    monkeypatch.chdir(tmp_path)
    assert by_hand.program_here() == "'/usr/with space/python3' -m localful_ws"


def test_commands_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [command for step in by_hand.steps("localful-ws") for command in step.commands]
    names = []
    for command in commands:
        plain = command.split("$(")[-1].rstrip(")") if "$(" in command else command
        words = shlex.split(plain)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value)
            continue
        assert words.pop(0) == "localful-ws"
        main.commands[words[0]].make_context(words[0], words[1:])
        names.append(words[0])
    assert names == ["serve", "token", "listen", "publish", "publish"]
    assert os.environ["LOCALFUL_WS_JWT_SECRET"]
    assert os.environ["LOCALFUL_WS_PUBLISHER_KEY"]


def test_commands_fit_80_columns() -> None:
    for step in by_hand.steps(".venv/bin/localful-ws"):
        assert all(len(command) + 4 <= 80 for command in step.commands)
        assert len(step.what) + 2 <= 80
