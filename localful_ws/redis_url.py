"""Where Redis is: what the URL of the setting ``engine`` says.

The settings are judged by it and the engine goes by it, and so it imports neither, nor the client of Redis.

No error in here repeats any part of the URL: a password with a mark in it that is not percent-encoded ends up
in the strangest places.
"""

import re
import ssl
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from attrs import evolve, field, frozen


class RedisUrlError(ValueError):
    """The URL of a Redis is wrong. The text says why, goes after "can't be used:", and repeats none of it."""


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
            raise ValueError("ssl_ca_certs can't be read as certificates in PEM") from None
        context.check_hostname = self.verify and self.check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        if self.certfile is not None:
            try:
                context.load_cert_chain(self.certfile, self.keyfile, password="")
            except (OSError, ValueError):
                raise ValueError(
                    "ssl_certfile and ssl_keyfile can't be read as a certificate and its key in PEM"
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

    @property
    def scheme(self) -> str:
        """What the URL began with, before the ``://``."""
        if self.path is not None:
            return "unix"
        scheme = "redis" if self.tls is None else "rediss"
        return scheme if self.deployment is Deployment.SINGLE else f"{scheme}+{self.deployment.value}"

    def __str__(self) -> str:
        """Where it is, without secrets, to go into a sentence."""
        if self.path is not None:
            return self.path
        return ", ".join(map(str, self.hosts))


_DEPLOYMENTS: Final = {
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
_REQUIRED_OR_NONE: Final = {"required": True, "none": False}
_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_PLACE: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


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
        RedisUrlError: If something in it is wrong.
        ValueError: If it is no URL of a Redis at all.
    """
    scheme, userinfo, places, path, query = _split(url)
    deployment = _DEPLOYMENTS[scheme]
    username, _, password = userinfo.partition(":")
    with_tls = scheme.startswith("rediss")
    options = _read_options(query, deployment, with_tls=with_tls)
    address = Address(
        deployment,
        username=_unquote(username) or None,
        password=_unquote(password) or None,
        db=_read_db(options.get("db", "0")),
        tls=_read_tls(options) if with_tls else None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )
    if scheme == "unix":
        if places or path.endswith("/") or not path:
            raise RedisUrlError("unix:// takes the path of a socket, as in unix:///run/redis.sock")
        return evolve(address, path=path)
    address = evolve(address, hosts=_read_hosts(places, deployment))
    path = path.removeprefix("/")
    if deployment is Deployment.SENTINEL:
        if not path or "/" in path:
            raise RedisUrlError("after the sentinels comes the name of the service, as in host:26379/name")
        return evolve(address, service=path)
    if deployment is Deployment.CLUSTER:
        if path not in ("", "0"):
            raise RedisUrlError("a cluster has no databases to choose from")
        return address
    if len(address.hosts) > 1:
        raise RedisUrlError("of several hosts, say whether they are redis+sentinel:// or redis+cluster://")
    if not path:
        return address
    if "db" in options:
        raise RedisUrlError("the database is in it twice, after the host and as an option")
    return evolve(address, db=_read_db(path))


def _split(url: str) -> tuple[str, str, str, str, str]:
    """Its scheme, user and password, hosts, path, and query. Of these only the path is decoded."""
    scheme, separator, rest = url.partition("://")
    if scheme not in _DEPLOYMENTS or not separator:
        raise ValueError(
            f"the URL of a Redis begins with {', '.join(f'{known}://' for known in _DEPLOYMENTS)}"
        )
    if "#" in rest or " " in rest:
        raise RedisUrlError("a # or a space in it must be written %23 or %20")
    if _STRAY_PERCENT.search(rest):
        raise RedisUrlError("a % in it must be written %25")
    # In this order: whatever an unescaped mark in a password does, its rest is taken for a host or path.
    rest, _, query = rest.partition("?")
    places, slash, path = rest.partition("/")
    if scheme != "unix" and "@" in path:
        raise RedisUrlError("a / in its user or password must be written %2F")
    userinfo, _, places = places.rpartition("@")
    if "@" in userinfo:
        raise RedisUrlError("an @ in its user or password must be written %40, and they stand there once")
    path = _unquote(slash + path)
    if not path.isprintable():
        raise RedisUrlError("what follows the host must be printable")
    return scheme, userinfo, places, path, query


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise RedisUrlError("what is written as %XX must be UTF-8") from None


def _read_hosts(places: str, deployment: Deployment) -> tuple[Host, ...]:
    default = _SENTINEL_PORT if deployment is Deployment.SENTINEL else _REDIS_PORT
    hosts = []
    for place in places.split(","):
        written = _PLACE.fullmatch(place)
        port = default if written is None or written["port"] is None else int(written["port"])
        if written is None or not 0 < port < 65536 or not _is_v6(written["v6"] or "::"):
            raise RedisUrlError(
                "it needs a host, or host:port; an IPv6 address stands in [ ], and marks such as "
                "/ : @ # ? % in a password must be written as %XX"
            )
        hosts.append(Host(written["v6"] or written["name"], port))
    return tuple(dict.fromkeys(hosts))


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _read_options(query: str, deployment: Deployment, *, with_tls: bool) -> dict[str, str]:
    known = [
        *(("db",) if deployment is not Deployment.CLUSTER else ()),
        *(_SENTINEL_OPTIONS if deployment is Deployment.SENTINEL else ()),
        *(_TLS_OPTIONS if with_tls else ()),
    ]
    options = {}
    for option in query.split("&") if query else ():
        name, equals, value = option.partition("=")
        if not equals or not value:
            raise RedisUrlError("after the ? come options, name=value and & between them")
        name = _unquote(name)
        if name in options:
            raise RedisUrlError("an option is in it twice")
        # Not as in a form: a + is a +.
        options[name] = _unquote(value)
    if not options.keys() <= set(known):
        there_are = f"there are {', '.join(known)}" if known else "there are none"
        raise RedisUrlError(f"it has an option that is not known; of this kind of URL {there_are}")
    return options


def _read_db(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise RedisUrlError("the database must be a number")
    return int(text)


def _read_tls(options: Mapping[str, str]) -> TlsOptions:
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise RedisUrlError("ssl_keyfile is set and ssl_certfile is not")
    return TlsOptions(
        options.get("ssl_ca_certs"),
        options.get("ssl_certfile"),
        options.get("ssl_keyfile"),
        verify=_choose(options, "ssl_cert_reqs", _REQUIRED_OR_NONE),
        check_hostname=_choose(options, "ssl_check_hostname", _YES_OR_NO),
    )


def _choose(options: Mapping[str, str], name: str, choices: Mapping[str, bool]) -> bool:
    if name not in options:
        return True
    choice = choices.get(options[name].lower())
    if choice is None:
        raise RedisUrlError(f"{name} must be one of {', '.join(choices)}")
    return choice
