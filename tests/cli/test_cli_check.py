"""``localful-ws check``: how it prints, ends, and keeps secrets to itself."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from localful_ws.cli import main
from tests.redis_server import free_port

KEY = "a-publisher-key-that-nobody-may-see"
SECRET = "a-shared-secret-that-nobody-may-ever-see"
ENVIRONMENT = {
    "LOCALFUL_WS_PUBLISHER_KEY": KEY,
    "LOCALFUL_WS_JWT_SECRET": SECRET,
    "LOCALFUL_WS_PORT": "0",
    "LOCALFUL_WS_INTERNAL_PORT": "0",
}
NOBODY = "redis://me:PASSWORD@127.0.0.1:1/0"


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *arguments], env=ENVIRONMENT | environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    for secret in (KEY, SECRET, "PASSWORD"):
        assert secret not in result.output
    return result.exit_code, result.output


def test_a_line_for_each_check() -> None:
    status, output = run()
    assert status == 0
    assert [line.split()[1] for line in output.splitlines()][:3] == ["settings:", "port:", "internal-port:"]
    assert all(line.startswith(("ok ", "warning ")) for line in output.splitlines())


@pytest.mark.parametrize("option", ["engine", "engine-file"])
def test_one_that_failed_says_what_to_do(tmp_path: Path, option: str) -> None:
    file = tmp_path / "engine"
    file.write_text(NOBODY)
    status, output = run(f"--{option}", NOBODY if option == "engine" else str(file))
    assert (status, "Redis at 127.0.0.1:1 can't be reached" in output) == (1, True)
    (line,) = [line for line in output.splitlines() if line.startswith("failed ")]
    assert line.startswith("failed   redis: ")
    assert " -> Start it" in line


def test_settings_come_from_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "conf.toml"
    file.write_text("max-vaults = 0\n")
    status, output = run("--config", str(file))
    assert (status, "max-vaults in" in output) == (1, True)
    assert run("--config", str(file), "--max-vaults", "5")[0] == 0
    assert run("--jwt-secret", "PASSWORD")[0] == 1


def test_json() -> None:
    status, output = run("--json", "--engine", NOBODY)
    report = json.loads(output)
    assert (status, report["ok"]) == (1, False)
    assert {tuple(check) for check in report["checks"]} == {("check", "outcome", "message", "advice")}
    assert [check["check"] for check in report["checks"] if check["outcome"] == "failed"] == ["redis"]
    assert json.loads(run("--json")[1])["ok"] is True


def test_the_public_url_is_asked() -> None:
    status, output = run("--public-url", f"ws://127.0.0.1:{free_port()}/v1/sync", "--timeout", "2")
    assert (status, "failed   public url: No connection" in output) == (1, True)


@pytest.mark.parametrize("url", ["https://a.example/", "wss://", "nothing"])
def test_a_public_url_that_is_none(url: str) -> None:
    status, output = run("--public-url", url)
    assert (status, "--public-url: The URL must begin with" in output) == (2, True)
