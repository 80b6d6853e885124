"""``localful-ws serve``: the daemon."""

import os

import click

from localful_ws.cli.options import given_settings, setting_options
from localful_ws.logs import configure_logging
from localful_ws.settings import OPTIONS, SettingsError, load_settings


@click.command()
@setting_options(OPTIONS)
def serve() -> None:
    """Run the daemon until SIGTERM or SIGINT.

    Every option can be set in the environment (LOCALFUL_WS_PORT for --port) and in the file that --config
    names (port = 42102) as well; the command line wins over the environment, that over the file. The log says
    where the daemon listens.
    """
    settings = load_settings(given_settings(), os.environ)
    configure_logging(settings.log_format, settings.log_level)
    # The other commands need none of what the daemon imports.
    from localful_ws.server import run  # noqa: PLC0415
    from localful_ws.server.listeners import ListenError  # noqa: PLC0415

    wrong: BaseException | None = None
    try:
        run.run(settings)
    except* (SettingsError, ListenError) as errors:
        wrong = errors
    while isinstance(wrong, BaseExceptionGroup):
        wrong = wrong.exceptions[0]
    if isinstance(wrong, SettingsError):
        raise wrong
    if wrong is not None:
        raise click.ClickException(str(wrong))
