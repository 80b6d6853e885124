"""What clients send and get: JSON with camelCase keys. Nothing is coerced, and unknown keys are refused."""

import re
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from localful_ws.demo.backend.errors import ApiError

T = TypeVar("T")

Email = Annotated[str, Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
Password = Annotated[str, Meta(min_length=8, max_length=256)]
GivenPassword = Annotated[str, Meta(max_length=256)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
Token = Annotated[str, Meta(max_length=8192)]
# The data of a vault goes into events, which hold 64 KiB at most; a character may take six bytes as JSON.
VaultData = Annotated[str, Meta(max_length=4096)]
VersionData = Annotated[str, Meta(max_length=65536)]

_PLACE: Final = re.compile(r" - at `\$\.(?P<key>\w+)`$")
_FIELD: Final = re.compile(r"(?:missing required|contains unknown) field `(?P<key>\w+)`")


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The body of a request."""


class Credentials(Body, frozen=True):
    """To log in."""

    email: Annotated[str, Meta(max_length=254)]
    password: GivenPassword


class RefreshToken(Body, frozen=True):
    """To refresh tokens, or to log out."""

    refresh_token: Token


class ProfileChange(Body, frozen=True):
    """To change the profile."""

    display_name: Name


class EmailChange(Body, frozen=True):
    """To change the e-mail address."""

    email: Email
    password: GivenPassword


class PasswordChange(Body, frozen=True):
    """To change the password."""

    current_password: GivenPassword
    new_password: Password


class UserDeletion(Body, frozen=True):
    """To delete the account."""

    password: GivenPassword


class VaultContent(Body, frozen=True):
    """To make or change a vault. The server doesn't look into ``protected_data``, which a device encrypts."""

    protected_data: VaultData


class NewItem(Body, frozen=True):
    """To make an item."""

    vault_id: Id
    type: Name


class NewVersion(Body, frozen=True):
    """To make a version of an item."""

    item_id: Id
    protected_data: VersionData


class Resource(msgspec.Struct, frozen=True, rename="camel"):
    """Something that a request is answered with. Moments are Unix seconds."""


class User(Resource, frozen=True):
    """A user."""

    id: str
    email: str
    display_name: str
    created_at: float


class Vault(Resource, frozen=True):
    """A vault."""

    id: str
    protected_data: str
    created_at: float
    updated_at: float


class Item(Resource, frozen=True):
    """An item."""

    id: str
    vault_id: str
    type: str
    created_at: float


class Version(Resource, frozen=True):
    """A version of an item; it never changes."""

    id: str
    vault_id: str
    item_id: str
    protected_data: str
    created_at: float


class Tokens(Resource, frozen=True):
    """The tokens of a login."""

    access_token: str
    access_expires_at: float
    refresh_token: str
    refresh_expires_at: float


class Login(Resource, frozen=True):
    """Who logged in, and with which tokens."""

    user: User
    group: str
    tokens: Tokens


class Page(Resource, frozen=True):
    """Part of a list. ``next`` is what to give as ``after`` to get on, and null at the end."""

    results: list[Vault] | list[Item] | list[Version]
    next: str | None


class Snapshot(Resource, frozen=True):
    """Content as it was at one moment; see `localful_ws.demo.backend.snapshots`."""

    vaults: list[Vault]
    items: list[Item]
    versions: list[Version]


def decode_body(kind: type[T], body: bytes) -> T:
    """Read the body of a request.

    Raises:
        ApiError: 400 if it isn't JSON, 422 if it isn't what it should be; ``context.key`` says where, if that
            is known.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PLACE.search(text) or _FIELD.search(text)
        context = {"key": found["key"]} if found else {}
        sentence = _PLACE.sub("", text)
        where = f"{found['key']}: " if found else ""
        raise ApiError(422, "invalid-body", f"{where}{sentence}.", context) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError(400, "not-json", "The body must be JSON in UTF-8.") from None
