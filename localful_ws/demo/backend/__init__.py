"""A small HTTP API that uses the WebSocket server, as an example of how any HTTP API does.

Starlette on Trio, with SQLite. Where to look:

- `localful_ws.demo.backend.tokens` and `logins`: tokens with a token group, refreshing, logging out;
- `localful_ws.demo.backend.users` and `content`: a change and its event in one transaction;
- `localful_ws.demo.backend.outbox` and `publisher`: an event is published if, and only if, its change was
  committed;
- `localful_ws.demo.backend.snapshots`: how devices put snapshots and events together.

It is no product: there is no sign-up, no confirmation of e-mail addresses, and nothing that slows down
whoever guesses passwords, beyond the work that each guess takes.

``python -m localful_ws.demo.backend --help`` says how to run it beside a daemon.
"""

from localful_ws.demo.backend.build import Backend, build_backend
from localful_ws.demo.backend.seed import SEEDS, Seed
from localful_ws.demo.backend.settings import BackendSettings

__all__ = ["SEEDS", "Backend", "BackendSettings", "Seed", "build_backend"]
