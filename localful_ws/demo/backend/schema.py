"""The tables."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id            TEXT PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,
    display_name  TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at    REAL NOT NULL
) STRICT;

-- A login on one device: a token group. It is gone when it was logged out.
CREATE TABLE IF NOT EXISTS logins (
    gid         TEXT PRIMARY KEY,
    user_id     TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    refresh_id  TEXT NOT NULL,           -- the jti of the refresh token that is good
    previous_id TEXT,                    -- the one before, for which it was given
    rotated_at  REAL NOT NULL,
    expires_at  REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS logins_of_user ON logins (user_id, rotated_at);

CREATE TABLE IF NOT EXISTS vaults (
    id             TEXT PRIMARY KEY,
    user_id        TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    protected_data TEXT NOT NULL,
    created_at     REAL NOT NULL,
    updated_at     REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS vaults_of_user ON vaults (user_id, id);

-- user_id stands in every table, so that every statement can ask whose a row is.
CREATE TABLE IF NOT EXISTS items (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL,
    vault_id   TEXT NOT NULL REFERENCES vaults ON DELETE CASCADE,
    type       TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS items_of_vault ON items (vault_id, id);
CREATE INDEX IF NOT EXISTS items_of_user ON items (user_id);

CREATE TABLE IF NOT EXISTS versions (
    id             TEXT PRIMARY KEY,
    user_id        TEXT NOT NULL,
    vault_id       TEXT NOT NULL,
    item_id        TEXT NOT NULL REFERENCES items ON DELETE CASCADE,
    protected_data TEXT NOT NULL,
    created_at     REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS versions_of_item ON versions (item_id, id);
CREATE INDEX IF NOT EXISTS versions_of_vault ON versions (vault_id, id);
CREATE INDEX IF NOT EXISTS versions_of_user ON versions (user_id);

-- What the WebSocket server is still to be told, in this order. AUTOINCREMENT: no position is used twice.
CREATE TABLE IF NOT EXISTS outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,       -- the event's id; see localful_ws.demo.backend.outbox
    path     TEXT NOT NULL,              -- where to post it: /v1/events or /v1/disconnect
    body     TEXT NOT NULL
) STRICT;

-- What it refused. A person should look at these.
CREATE TABLE IF NOT EXISTS outbox_refused (
    position INTEGER PRIMARY KEY,
    id       TEXT NOT NULL,
    path     TEXT NOT NULL,
    body     TEXT NOT NULL,
    reason   TEXT NOT NULL
) STRICT;
"""
