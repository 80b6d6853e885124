"""``localful-ws conform``: how it lists, complains and ends. What it says of servers: tests/scenes/."""

import pytest
from click.testing import CliRunner

from localful_ws.cli import main
from localful_ws.conform.scenes import read_scenes
from tests.redis_server import free_port

KEY = "a-publisher-key-that-nobody-may-see"
SECRET = "a-shared-secret-that-nobody-may-ever-see"
ENVIRONMENT = {"LOCALFUL_WS_PUBLISHER_KEY": KEY, "LOCALFUL_WS_JWT_SECRET": SECRET}


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["conform", *arguments], env=ENVIRONMENT | environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    for secret in (KEY, SECRET):
        assert secret not in result.output
    return result.exit_code, result.output


def test_list_shows_every_scene() -> None:
    status, output = run("--list")
    *lines, last = output.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines] == [scene.name for scene in read_scenes()]
    assert last == f"{len(lines)} scenes"


def test_list_of_a_section() -> None:
    status, output = run("--list", "--section", "expiry")
    assert status == 0
    assert "renewal-unasked" in output
    assert "expiry " in output
    assert "echo" not in output


def test_list_of_one() -> None:
    _, output = run("--list", "--only", "too-many-vaults")
    assert output.splitlines()[0].split() == [
        "too-many-vaults",
        "Too",
        "many",
        "vaults",
        "[max-vaults=2]",
        "(#subscribe)",
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "eco"], "There is no scene eco"),
        (["--section", "echo"], "There is no scene about echo"),
        (["--given", "max-vaults"], "that is no setting"),
        (["--given", "max-vault=2"], "that is no setting"),
        (["--given", "max-vaults=many"], "--given max-vaults must be"),
        (["--url", "http://127.0.0.1/"], "--url: The URL must begin with ws://"),
        (["--internal-url", "ws://127.0.0.1/"], "--internal-url must begin with http://"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], complaint: str) -> None:
    status, output = run(*arguments)
    assert (status, complaint in output) == (2, True), output


@pytest.mark.parametrize("missing", ["LOCALFUL_WS_PUBLISHER_KEY", "LOCALFUL_WS_JWT_SECRET"])
def test_secret_and_key_are_needed(missing: str) -> None:
    status, output = run(**{missing: ""})
    assert (status, "is missing: set " in output) == (2, True)


@pytest.mark.sockets
def test_no_server() -> None:
    status, output = run("--url", f"ws://127.0.0.1:{free_port()}/v1/sync")
    assert status == 2
    assert "There is no WebSocket server at 127.0.0.1:" in output
