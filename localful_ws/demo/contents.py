"""What the demo begins with, and how it begins anew."""

import itertools
import sqlite3
from typing import Final

from localful_ws.demo.backend import SEEDS, BackendSettings, content, outbox
from localful_ws.demo.backend.seed import seed_users
from localful_ws.demo.backend.tokens import Claims
from localful_ws.demo.backend.users import find_by_email
from localful_ws.demo.backend.wire import NewItem, NewVersion
from localful_ws.protocol import EventName

CONTENTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "ada@example.org": {
        "Notes": ("Call the bank before noon", "Books to read this winter"),
        "Travel": ("Lisbon, first week of May",),
    },
    "bob@example.org": {"Recipes": ("Bread: 500 g flour, 350 g water",)},
}
"""By e-mail address: the vaults, and the texts in each."""

# No device has it, so that each hears of what is put in.
_GROUP: Final = "the-demo"


def put_in(connection: sqlite3.Connection, settings: BackendSettings, now: float) -> None:
    """Put in what the users begin with, in a transaction."""
    for email, vaults in CONTENTS.items():
        account = find_by_email(connection, email)
        if account is None:
            continue
        actor = Claims(account.user.id, _GROUP)
        # One after the other: snapshots are in the order in which things were made.
        moments = itertools.count(now - 1, 0.001)
        for name, texts in vaults.items():
            vault = content.create_vault(connection, actor, name, settings, next(moments))
            for text in texts:
                wanted = NewItem(vault.id, "note")
                item = content.create_item(connection, actor, wanted, settings, next(moments))
                version = NewVersion(item.id, text)
                content.create_version(connection, actor, version, settings, next(moments))


def start_over(connection: sqlite3.Connection, settings: BackendSettings, now: float) -> None:
    """Delete all users with all that is theirs, and begin as at the start, in a transaction.

    The new users have other ids. Devices that are connected hear ``user-delete`` and are closed.
    """
    for (user,) in connection.execute("SELECT id FROM users").fetchall():
        connection.execute("DELETE FROM users WHERE id = ?", (user,))
        outbox.add_event(connection, EventName.USER_DELETE, user=user, group=_GROUP)
    seed_users(connection, settings.password_cost, now)
    put_in(connection, settings, now)


def users() -> list[dict[str, str]]:
    """Who can log in, for the page. These passwords are no secret."""
    return [{"name": seed.display_name, "email": seed.email, "password": seed.password} for seed in SEEDS]
