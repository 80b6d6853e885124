"""``localful-ws token``: an access token for development and tests."""

import time

import click

from localful_ws.cli.options import find_settings, setting_options
from localful_ws.settings import SettingsError
from localful_ws.tokens import mint_token

_SETTINGS = ("jwt-secret", "jwt-secret-file", "jwt-issuer", "jwt-audience", "group-claim")


@click.command()
@click.option("--user", metavar="ID", required=True, help="the user (claim sub)")
@click.option("--group", metavar="ID", required=True, help="the token group: one login on one device")
@click.option(
    "--ttl",
    metavar="S",
    type=click.IntRange(min=1, max=100 * 365 * 86400),
    default=3600,
    help="seconds until it expires  [3600]",
)
@setting_options(_SETTINGS)
def token(user: str, group: str, ttl: int) -> None:
    """Print an access token signed with the configured secret. For development and tests."""
    values = find_settings(_SETTINGS)
    secret = values["jwt_secret"]
    if secret is None:
        raise SettingsError(
            "jwt-secret is missing: set jwt-secret or jwt-secret-file as for the daemon. "
            "Tokens for a public key or JWKS only their issuer can make."
        )
    try:
        minted = mint_token(
            secret,
            user,
            group,
            ttl,
            int(time.time()),
            issuer=values["jwt_issuer"],
            audience=values["jwt_audience"],
            group_claim=values["group_claim"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(minted)
