"""Where Redis is: what the URL of the setting ``engine`` says.

No sentence in here repeats any part of the URL: a password with a mark in it that is not percent-encoded ends
up in the strangest places.
"""

import ssl
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import field, frozen


class Deployment(Enum):
    """How the servers hang together."""

    SINGLE = "redis"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@frozen
class Host:
    """A server's name or IP address, and its port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@frozen
class TlsOptions:
    """How TLS is spoken with all servers.

    Attributes:
        ca_certs: File or directory of the authorities to trust; the system's if None.
        certfile: Our certificate chain, in PEM.
        keyfile: Its private key, in PEM.
        verify: Whether a server must show a certificate that can be trusted.
        check_hostname: Whether it must also be made out to the server's name or address.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True
    check_hostname: bool = True

    def make_context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            ValueError: If one can't be read or used.
        """
        capath = self.ca_certs is not None and Path(self.ca_certs).is_dir()
        try:
            context = ssl.create_default_context(
                cafile=None if capath else self.ca_certs, capath=self.ca_certs if capath else None
            )
        except OSError:
            raise ValueError("engine: ssl_ca_certs can't be read as certificates in PEM.") from None
        context.check_hostname = self.verify and self.check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        if self.certfile is not None:
            try:
                context.load_cert_chain(self.certfile, self.keyfile, password="")
            except (OSError, ValueError):
                raise ValueError(
                    "engine: ssl_certfile and ssl_keyfile can't be read as a certificate and its key in PEM."
                ) from None
        return context


@frozen
class Address:
    """What a URL says.

    Attributes:
        deployment: How the servers hang together.
        hosts: Servers; with Sentinel the sentinels. None with ``path``.
        path: A Unix domain socket.
        service: What the sentinels call the server.
        username: Of the servers.
        password: Of the servers.
        db: Number of the database.
        tls: How TLS is spoken, if it is.
        sentinel_username: Of the sentinels.
        sentinel_password: Of the sentinels.
    """

    deployment: Deployment
    hosts: tuple[Host, ...] = ()
    path: str | None = None
    service: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: TlsOptions | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Where it is, without secrets, to go into a sentence."""
        if self.path is not None:
            return self.path
        return ", ".join(map(str, self.hosts))


_SCHEMES: Final = {
    "redis": Deployment.SINGLE,
    "rediss": Deployment.SINGLE,
    "unix": Deployment.SINGLE,
    "redis+sentinel": Deployment.SENTINEL,
    "rediss+sentinel": Deployment.SENTINEL,
    "redis+cluster": Deployment.CLUSTER,
    "rediss+cluster": Deployment.CLUSTER,
}
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
_YES_OR_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_url(url: str) -> Address:
    """Read the URL of the setting ``engine``.

    - ``redis://[user:password@]host[:port][/db]``; ``rediss://`` for TLS
    - ``unix://[user:password@]/path/of/socket[?db=1]``
    - ``redis+sentinel://[user:password@]host[:port],host[:port]/service``; ``rediss+sentinel://`` for TLS
    - ``redis+cluster://[user:password@]host[:port],host[:port]``; ``rediss+cluster://`` for TLS

    Options: ``db`` except for a cluster, ``sentinel_username`` and ``sentinel_password``, and with TLS
    ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs`` (required or none) and
    ``ssl_check_hostname`` (true or false).

    Raises:
        ValueError: With a sentence that says what is wrong and repeats nothing of the URL.
    """
    try:
        parts = urlsplit(url)
        userinfo, _, places = parts.netloc.rpartition("@")
        username, _, password = (unquote(part, errors="strict") or None for part in userinfo.partition(":"))
        path = unquote(parts.path, errors="strict")
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True, errors="strict"))
    except ValueError:
        if "?" not in url or url.endswith("?"):
            options = {}
        raise ValueError("engine: the URL can't be read; is every mark in its password written as %XX?") from None
    deployment = _SCHEMES.get(parts.scheme)
    if deployment is None:
        raise ValueError(f"engine: the URL must begin with one of {', '.join(f'{s}://' for s in _SCHEMES)}.")
    raise NotImplementedError(deployment, username, password, path, options, places)
