"""``localful-ws`` itself."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from localful_ws import __version__
from localful_ws.cli import main
from localful_ws.cli.addresses import internal_url, websocket_url
from localful_ws.settings import SettingsError


def test_it_says_its_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"localful-ws, version {__version__}\n"


@pytest.mark.parametrize("command", ["serve", "token", "publish", "listen", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    assert f"  {command} " in CliRunner().invoke(main, ["--help"]).output
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_the_module_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "localful_ws", "--version"], check=True, capture_output=True, text=True
    )
    assert result.stdout.endswith(f"version {__version__}\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "ws.example"])
def test_a_daemon_is_found_where_it_listens(host: str) -> None:
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
    values = {
        "host": host,
        "port": 1,
        "path": "/x",
        "tls_cert": None,
        "internal_host": host,
        "internal_port": 2,
    }
    assert websocket_url(values) == f"ws://{reached}:1/x"
    assert websocket_url(values | {"tls_cert": "cert.pem"}) == f"wss://{reached}:1/x"
    assert internal_url(values) == f"http://{reached}:2"


def test_a_daemon_on_any_free_port_is_not_found() -> None:
    with pytest.raises(SettingsError, match="say with --url where the daemon listens"):
        internal_url({"internal_host": "127.0.0.1", "internal_port": 0})
