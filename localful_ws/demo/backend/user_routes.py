"""``/v1/users``: whoever asks, about themselves."""

from starlette.responses import Response

from localful_ws.demo.backend import users
from localful_ws.demo.backend.errors import wrong_credentials
from localful_ws.demo.backend.passwords import check_password, hash_password
from localful_ws.demo.backend.requests import Call, json_response, no_content
from localful_ws.demo.backend.users import Account
from localful_ws.demo.backend.wire import EmailChange, PasswordChange, ProfileChange, UserDeletion


async def get_profile(call: Call) -> Response:
    """``GET /v1/users``."""
    account = await call.read(lambda connection, actor: users.get_account(connection, actor.user))
    return json_response(account.user)


async def change_profile(call: Call) -> Response:
    """``PATCH /v1/users``: ``user-update``."""
    wanted = call.decode(ProfileChange)
    user = await call.write(
        lambda connection, actor: users.change_profile(connection, actor, wanted.display_name)
    )
    return json_response(user)


async def change_email(call: Call) -> Response:
    """``PUT /v1/users/email``: ``user-email-change``."""
    wanted = call.decode(EmailChange)
    checked = await _check_password(call, wanted.password)
    user = await call.write(
        lambda connection, actor: users.change_email(connection, actor, checked, wanted.email)
    )
    return json_response(user)


async def change_password(call: Call) -> Response:
    """``PUT /v1/users/password``: ``user-password-change``, and all other logins end."""
    wanted = call.decode(PasswordChange)
    checked = await _check_password(call, wanted.current_password)
    cost = call.services.settings.password_cost
    hashed = await call.services.hash_slowly(lambda: hash_password(wanted.new_password, cost))
    await call.write(lambda connection, actor: users.change_password(connection, actor, checked, hashed))
    return no_content()


async def delete_user(call: Call) -> Response:
    """``DELETE /v1/users``: ``user-delete``."""
    wanted = call.decode(UserDeletion)
    checked = await _check_password(call, wanted.password)
    await call.write(lambda connection, actor: users.delete_user(connection, actor, checked))
    return no_content()


async def _check_password(call: Call, password: str) -> Account:
    """Check the password once more before what can't be undone. A token alone may have been stolen.

    The check takes long, and so stands outside of any transaction; what follows sees to it that the password
    is still the one that was checked.

    Raises:
        ApiError: 401 or 403.
    """
    account = await call.read(lambda connection, actor: users.get_account(connection, actor.user))
    if not await call.services.hash_slowly(lambda: check_password(password, account.password_hash)):
        raise wrong_credentials()
    return account
