"""How a demo fails."""

import click


class DemoError(click.ClickException):
    """The demo did not go as it should. The message says what was wrong; the command ends with status 1."""
