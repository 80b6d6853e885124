"""``/v1/auth``: log in, refresh, log out."""

import sqlite3

from starlette.responses import Response

from localful_ws.demo.backend.errors import unauthorized, wrong_credentials
from localful_ws.demo.backend.logins import begin_login, end_login, refresh_login, sign_tokens
from localful_ws.demo.backend.passwords import check_password, hash_password
from localful_ws.demo.backend.requests import Call, json_response, no_content
from localful_ws.demo.backend.tokens import REFRESH, Claims, verify_token
from localful_ws.demo.backend.users import Account, find_by_email, get_account
from localful_ws.demo.backend.wire import Credentials, Login, RefreshToken


async def log_in(call: Call) -> Response:
    """``POST /v1/auth/login``: from e-mail and password to tokens, with a token group of their own."""
    credentials = call.decode(Credentials)
    services = call.services
    account = await services.database.read(lambda connection: find_by_email(connection, credentials.email))
    await services.hash_slowly(lambda: _check(account, credentials.password, services.settings.password_cost))
    if account is None:
        raise wrong_credentials()
    checked = account

    def begin(connection: sqlite3.Connection) -> tuple[Account, Claims]:
        present = get_account(connection, checked.user.id)
        if present.password_hash != checked.password_hash:  # it was changed while we checked it
            raise wrong_credentials()
        return present, begin_login(connection, checked.user.id, services.settings, call.now)

    present, claims = await services.database.write(begin)
    tokens = sign_tokens(claims, services.settings, call.now)
    return json_response(Login(present.user, claims.group, tokens))


async def refresh(call: Call) -> Response:
    """``POST /v1/auth/refresh``: from a refresh token to new tokens of the same group."""
    services = call.services
    claims = _verify(call)
    following = await services.database.write(
        lambda connection: refresh_login(connection, claims, services.settings, call.now)
    )
    if following is None:
        raise unauthorized("This refresh token was used before, so its login has ended; log in again.")
    return json_response(sign_tokens(following, services.settings, call.now))


async def log_out(call: Call) -> Response:
    """``POST /v1/auth/logout``: end the login of a refresh token. To do so twice does no harm.

    It takes the refresh token, since the access token may have expired. The login is disconnected at
    the WebSocket server through the outbox: even if that can't be reached now.
    """
    claims = _verify(call)
    await call.services.database.write(lambda connection: end_login(connection, claims.user, claims.group))
    return no_content()


def _verify(call: Call) -> Claims:
    token = call.decode(RefreshToken).refresh_token
    return verify_token(token, REFRESH, call.services.settings.jwt_secret, call.now)


def _check(account: Account | None, password: str, cost: int) -> None:
    """Check a password. It takes as long if there is no such user, so that the time doesn't tell.

    Raises:
        ApiError: 403.
    """
    if account is None:
        hash_password(password, cost)
    elif check_password(password, account.password_hash):
        return
    raise wrong_credentials()
