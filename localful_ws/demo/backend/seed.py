"""The users that the demo begins with. Their passwords are no secret."""

import sqlite3

from attrs import frozen

from localful_ws.demo.backend.passwords import hash_password
from localful_ws.demo.backend.users import add_user, find_by_email


@frozen
class Seed:
    """A user of the demo.

    Attributes:
        display_name: The name.
        email: The address to log in with.
        password: The password, to be shown on the page.
    """

    display_name: str
    email: str
    password: str


SEEDS = (
    Seed("Ada", "ada@example.org", "ada's password"),
    Seed("Bob", "bob@example.org", "bob's password"),
)


def seed_users(connection: sqlite3.Connection, password_cost: int, now: float) -> None:
    """Add those of `SEEDS` that aren't there."""
    for seed in SEEDS:
        if find_by_email(connection, seed.email) is None:
            hashed = hash_password(seed.password, password_cost)
            add_user(connection, seed.email, seed.display_name, hashed, now)
