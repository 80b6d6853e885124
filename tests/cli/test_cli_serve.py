"""``localful-ws serve``: what reaches the daemon, and how a start fails."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from localful_ws.cli import main
from localful_ws.server import run
from localful_ws.server.listeners import ListenError
from localful_ws.settings import OPTIONS, Settings, SettingsError

KEY = "a-publisher-key-that-nobody-may-see"
SECRET = "a-shared-secret-that-nobody-may-ever-see"
ENVIRONMENT = {"LOCALFUL_WS_PUBLISHER_KEY": KEY, "LOCALFUL_WS_JWT_SECRET": SECRET}


@pytest.fixture(autouse=True)
def unchanged_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of the daemons that were started, which do nothing."""
    daemons: list[Settings] = []
    monkeypatch.setattr(run, "run", daemons.append)
    return daemons


def failing(error: BaseException) -> Callable[[Settings], None]:
    def run(_: Settings) -> None:
        raise error

    return run


def test_the_daemon_gets_its_settings(started: list[Settings], tmp_path: Path) -> None:
    file = tmp_path / "conf.toml"
    file.write_text("port = 1\nmax-vaults = 11\nmax-batch = 111\n")
    environment = ENVIRONMENT | {"LOCALFUL_WS_PORT": "2", "LOCALFUL_WS_MAX_VAULTS": "22"}
    arguments = ["serve", "--config", str(file), "--port", "3"]
    arguments += ["--allow-origin", "https://a.example", "--allow-origin", "https://b.example"]
    result = CliRunner().invoke(main, arguments, env=environment)
    assert (result.exit_code, result.output) == (0, "")
    (settings,) = started
    assert (settings.port, settings.max_vaults, settings.max_batch) == (3, 22, 111)
    assert settings.allow_origin == ("https://a.example", "https://b.example")
    assert (settings.publisher_key, settings.jwt_secret) == (KEY, SECRET.encode())
    assert settings.max_connections > 0


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {}, "publisher-key is missing: name a file that holds it with --publisher-key-file"),
        ([], {"LOCALFUL_WS_PUBLISHER_KEY": KEY}, "Say how access tokens are checked, with one of jwt-secret"),
        (["--port", "x"], ENVIRONMENT, "--port must be a whole number from 0 to 65535, not 'x'."),
        (
            [],
            ENVIRONMENT | {"LOCALFUL_WS_PORT": "x"},
            "LOCALFUL_WS_PORT must be a whole number from 0 to 65535",
        ),
        (
            ["--config", "/nowhere"],
            ENVIRONMENT,
            "The configuration file /nowhere can't be read: No such file",
        ),
        (["--max-connections", "999999999"], ENVIRONMENT, "and the limit of open files allows"),
        (["--tls-cert", __file__], ENVIRONMENT, "tls-cert is set and tls-key is not"),
        (
            ["--send-buffer-bytes", "64KiB"],
            ENVIRONMENT,
            "send-buffer-bytes is 65536 and must be at least 69632",
        ),
        (["--publisher-key", "short"], ENVIRONMENT, "--publisher-key must be at least 16 printable ASCII"),
        (["--jwt-secret", "short"], ENVIRONMENT, "--jwt-secret must be at least 32 bytes"),
        (
            ["--engine", "redis://:short@127.0.0.1:6379/abc", "--workers", "2"],
            ENVIRONMENT,
            "--engine can't be used: the database must be a number.",
        ),
        (
            ["--engine", "redis://:short@127.0.0.1:99999"],
            ENVIRONMENT,
            "--engine can't be used: it needs a host, or host:port",
        ),
        (
            ["--engine", "redis://:short@127.0.0.1", "--engine-file", __file__],
            ENVIRONMENT,
            "--engine and --engine-file exclude each other",
        ),
        (
            ["--engine-file", "redis://:short@127.0.0.1"],
            ENVIRONMENT,
            "--engine-file must be the path of a file that is there.",
        ),
        (["--engine-file", __file__], ENVIRONMENT, "What is in the file of --engine-file must be memory, or"),
        (["--workers", "2"], ENVIRONMENT, "workers is 2 and engine is memory"),
        (
            ["--jwt-secret", SECRET, "--jwks-url", "https://a.example/"],
            ENVIRONMENT,
            "--jwt-secret and --jwks-url exclude each other",
        ),
        (["--prot", "5"], ENVIRONMENT, "No such option"),
        (["extra"], ENVIRONMENT, "unexpected extra argument"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_a_sentence(
    started: list[Settings], arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    result = CliRunner().invoke(main, ["serve", *arguments], env=environment)
    assert (result.exit_code, started) == (2, [])
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert "short" not in result.output
    assert SECRET not in result.output
    assert KEY not in result.output


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SettingsError("A sentence."), 2),
        (ExceptionGroup("", [ExceptionGroup("", [SettingsError("A sentence.")])]), 2),
        (ListenError("A sentence."), 1),
    ],
)
def test_what_only_the_daemon_can_find_out_is_told_alike(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    monkeypatch.setattr(run, "run", failing(error))
    result = CliRunner().invoke(main, ["serve"], env=ENVIRONMENT)
    assert (result.exit_code, result.output) == (status, "Error: A sentence.\n")


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run", failing(KeyError("oops")))
    assert isinstance(CliRunner().invoke(main, ["serve"], env=ENVIRONMENT).exception, KeyError)


def test_help_names_every_setting() -> None:
    result = CliRunner().invoke(main, ["serve", "--help"])
    assert result.exit_code == 0
    assert [name for name in OPTIONS if f"--{name} " not in result.output] == []
