"""How the values of settings are written: one `Kind` each for numbers, seconds, sizes, secrets and so on.

A kind reads what a command line or the environment gives (text), what TOML gives (numbers and lists as well)
and, so that a `Settings` made in Python is judged by the same rules, the finished value.
"""

import math
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from localful_ws.protocol import Rate
from localful_ws.redis_url import RedisUrlError, parse_url

_SIZES = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_SIZE = re.compile(r"(\d+)\s*([A-Za-z]*)", re.ASCII)
_RATE = re.compile(r"(\d{1,9})/(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,63}", re.ASCII)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,?#A-Z]+", re.ASCII)


class UnusableValueError(ValueError):
    """A value has the right form and can't be used. The text says why, and repeats nothing of the value."""


@frozen
class Kind:
    """One way of writing a value.

    Attributes:
        expected: What it must be, to be read after "must be".
        read: Makes the value of what a source gave; raises ValueError or TypeError if it can't, and
            `UnusableValueError` to say more than what it must be.
        show: Writes a value as somebody would write it in a setting.
        unit: What a number counts, where that isn't written with it.
        metavar: What stands for a value in the help of the command line.
        repeatable: Whether an option of this kind may be given several times.
    """

    expected: str
    read: Callable[[object], Any]
    show: Callable[[Any], str] = str
    unit: str = ""
    metavar: str = "TEXT"
    repeatable: bool = False


def _read_text(raw: object) -> str:
    if not isinstance(raw, str) or not raw or not raw.isprintable():
        raise ValueError
    return raw


def _read_whole(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise TypeError
    return int(raw)


def _read_seconds(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise TypeError
    seconds = float(raw)
    if not math.isfinite(seconds):
        raise ValueError
    return seconds


def _read_size(raw: object) -> int:
    if isinstance(raw, str):
        written = _SIZE.fullmatch(raw.strip())
        factors = {unit.lower(): factor for unit, factor in _SIZES.items()}
        if written is None or written[2].lower() not in factors:
            raise ValueError
        return int(written[1]) * factors[written[2].lower()]
    return _read_whole(raw)


def _show_size(size: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return str(size)


def _read_rate(raw: object) -> Rate:
    if isinstance(raw, Rate):
        rate = raw
    else:
        written = _RATE.fullmatch(raw.replace(" ", "")) if isinstance(raw, str) else None
        if written is None:
            raise ValueError
        rate = Rate(int(written[1]), float(written[2]))
    if rate.most < 1 or not 0 < rate.seconds < math.inf:
        raise ValueError
    return rate


def _show_rate(rate: Rate) -> str:
    return f"{rate.most}/{rate.seconds:g}"


def _read_origins(raw: object) -> tuple[str, ...]:
    origins = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(origins, list | tuple) or not all(isinstance(origin, str) for origin in origins):
        raise ValueError
    # Browsers send "null" for pages that have no origin of their own, such as files.
    cleaned = tuple(dict.fromkeys(origin.strip() for origin in origins))
    if not all(origin == "null" or _ORIGIN.fullmatch(origin) for origin in cleaned):
        raise ValueError
    return cleaned


def _read_hosts(raw: object) -> tuple[str, ...]:
    hosts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(hosts, list | tuple) or not all(isinstance(host, str) for host in hosts):
        raise ValueError
    cleaned = tuple(dict.fromkeys(host.strip().lower() for host in hosts))
    if not all(host == "*" or _HOST.fullmatch(host) for host in cleaned):
        raise ValueError
    return cleaned


def _read_path(raw: object) -> str:
    path = _read_text(raw)
    if not path.isascii() or not path.startswith("/") or any(mark in path for mark in " ?#"):
        raise ValueError
    return path


def _read_file(raw: object) -> Path:
    if not isinstance(raw, str | Path) or not str(raw) or "\0" in str(raw):
        raise ValueError
    path = Path(raw)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError from None
    except OSError as error:
        raise UnusableValueError(error.strerror) from None
    # A pipe will do as well: shells hand over secrets as /dev/fd/63.
    if stat.S_ISDIR(mode):
        raise ValueError
    return path


def _read_url(raw: object) -> str:
    url = _read_text(raw)
    parts = urlsplit(url)
    # To look at the port is to check it.
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in url or parts.port == 0:
        raise ValueError
    return url


def _read_engine(raw: object) -> str:
    engine = _read_text(raw.decode() if isinstance(raw, bytes) else raw)
    if engine != "memory":
        try:
            parse_url(engine)
        except RedisUrlError as error:
            raise UnusableValueError(str(error)) from None
    return engine


def _read_prefix(raw: object) -> str:
    prefix = _read_text(raw)
    if not _PREFIX.fullmatch(prefix):
        raise ValueError
    return prefix


def _read_publisher_key(raw: object) -> str:
    key = raw.decode("latin-1") if isinstance(raw, bytes) else _read_text(raw)
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError
    return key


def _read_shared_secret(raw: object) -> bytes:
    secret = raw if isinstance(raw, bytes) else _read_text(raw).encode()
    if len(secret) < 32:
        raise ValueError
    return secret


def _read_pem(raw: object) -> bytes:
    if not isinstance(raw, bytes) or b"-----BEGIN " not in raw:
        raise ValueError
    return raw


TEXT = Kind("text that is not empty", _read_text)
WHOLE = Kind("a whole number", _read_whole, metavar="N")
SECONDS = Kind("a number of seconds", _read_seconds, "{:g}".format, unit="s", metavar="S")
SIZE = Kind("a number of bytes, such as 65536 or 64KiB,", _read_size, _show_size, metavar="BYTES")
RATE = Kind("messages/seconds, such as 30/10 for 30 in 10 s", _read_rate, _show_rate, metavar="N/S")
ORIGINS = Kind(
    "origins such as https://app.example, in lower case, with a scheme and without a path or final slash",
    _read_origins,
    ", ".join,
    metavar="ORIGIN",
    repeatable=True,
)
HOSTS = Kind(
    "names such as localful-ws or ws.internal.example, without a port, or *",
    _read_hosts,
    ", ".join,
    metavar="HOST",
    repeatable=True,
)
PATH = Kind("a path that begins with /", _read_path, metavar="PATH")
FILE = Kind("the path of a file that is there", _read_file, metavar="FILE")
URL = Kind("a URL that begins with https:// or http://", _read_url, metavar="URL")
ENGINE = Kind(
    "memory, or a URL such as redis://127.0.0.1:6379/0, rediss://…, unix:///run/redis.sock, "
    "redis+sentinel://host:26379,host:26379/name or redis+cluster://host:6379,host:6379",
    _read_engine,
    metavar="ENGINE",
)
PREFIX = Kind("1 to 64 letters, digits, and : . _ -, beginning with a letter or digit", _read_prefix)
PUBLISHER_KEY = Kind(
    "at least 16 printable ASCII characters without spaces; `openssl rand -hex 32` makes one",
    _read_publisher_key,
    metavar="KEY",
)
SHARED_SECRET = Kind(
    "at least 32 bytes, the secret the HTTP API signs its access tokens with",
    _read_shared_secret,
    metavar="SECRET",
)
PEM = Kind("a public key in PEM (-----BEGIN PUBLIC KEY-----)", _read_pem)
