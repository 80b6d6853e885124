"""A connection to a server, as tests want it."""

from contextlib import AbstractAsyncContextManager

from localful_ws.engine.redis.link import Hear, Link, open_link
from localful_ws.engine.redis.servers import Servers
from localful_ws.redis_url import parse_url


def open_url(url: str, hear: Hear | None = None, timeout: float = 5.0) -> AbstractAsyncContextManager[Link]:
    """Connect to the first server that a URL names."""
    return open_link(Servers.of(parse_url(url), timeout).first[0], hear)
