"""``localful-ws``: the commands together, and how they end when a setting is wrong."""

from typing import Any

import click

from localful_ws import __version__
from localful_ws.cli.check import check
from localful_ws.cli.conform import conform
from localful_ws.cli.demo import demo
from localful_ws.cli.listen import listen
from localful_ws.cli.publish import publish
from localful_ws.cli.serve import serve
from localful_ws.cli.token import token
from localful_ws.settings import SettingsError


class _Complaint(click.ClickException):
    """A setting is missing or impossible."""

    exit_code = 2


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise _Complaint(str(error)) from None


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="localful-ws")
def main() -> None:
    """The Localful WebSocket server: tells a user's devices what their other devices changed.

    Settings come from the command line, from the environment (LOCALFUL_WS_MAX_VAULTS for --max-vaults) and
    from a TOML file (--config), in this order. `localful-ws serve --help` lists them.
    """


for command in (serve, check, token, publish, listen, demo, conform):
    main.add_command(command)
