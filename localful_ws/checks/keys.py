"""TLS files, and what access tokens are checked with."""

import stat
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from localful_ws.checks.finding import Finding, failed, ok, warning
from localful_ws.server.listeners import tls_context
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings, SettingsError
from localful_ws.tokens.jwks import make_http_client
from localful_ws.tokens.keyset import parse_key_set

_SOON: Final = timedelta(days=21)
_MOST_BYTES: Final = 1024 * 1024
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def check_tls_files(settings: Settings, now: datetime | None = None) -> Iterator[Finding]:
    """Look at the certificate and its key, if they are set."""
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None or key is None:
        yield ok("TLS", "The daemon speaks no TLS itself; a proxy before it should.")
        return
    now = now or datetime.now(UTC)
    try:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError):
        yield failed("tls-cert", f"{certificate} holds no certificate in PEM.", "Name the chain, leaf first.")
        return
    until = leaf.not_valid_after_utc
    date = until.date().isoformat()
    if until <= now:
        yield failed("tls-cert", f"The certificate ended on {date}.", "Renew it, and restart the daemon.")
    elif leaf.not_valid_before_utc > now:
        begin = leaf.not_valid_before_utc.isoformat()
        yield failed("tls-cert", f"The certificate is not valid before {begin}.", "Look at the clock.")
    elif until - now < _SOON:
        yield warning("tls-cert", f"The certificate ends on {date}.", "Renew it, and restart the daemon.")
    else:
        yield ok("tls-cert", f"The certificate is valid until {date}, for {_names_of(leaf)}.")
    yield _check_key(leaf, certificate, key)
    if _is_open(key):
        yield warning("tls-key", f"Every user of this machine can read {key}.", f"chmod o-rwx {key}")


def _check_key(leaf: x509.Certificate, certificate: Path, key: Path) -> Finding:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except TypeError:
        return failed("tls-key", f"{key} is encrypted.", "Take the password off: openssl pkey -in … -out …")
    except (OSError, ValueError):
        return failed("tls-key", f"{key} holds no private key in PEM.", "Name the key of the certificate.")
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        return failed(
            "tls-key",
            f"The key in {key} is not that of the first certificate in {certificate}.",
            "Name the key it was issued for, and put the leaf certificate first.",
        )
    try:
        tls_context(certificate, key)
    except SettingsError as error:
        return failed("tls-key", str(error), "See to both files.")
    return ok("tls-key", "The key fits the certificate.")


def _names_of(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name"
    return ", ".join(map(str, names.get_values_for_type(x509.DNSName))) or "no DNS name"


def _is_open(file: Path) -> bool:
    return bool(file.stat().st_mode & stat.S_IROTH)


async def check_tokens(settings: Settings, timeout: float) -> AsyncIterator[Finding]:  # noqa: ASYNC109
    """Look whether access tokens can be checked: the key, or the key set where it is published."""
    try:
        build_verifier(settings, time.time)
    except SettingsError as error:
        yield failed("tokens", str(error), "See to the key that access tokens are checked with.")
        return
    if settings.jwks_url is None:
        kind = "jwt-secret" if settings.jwt_secret is not None else "jwt-public-key-file"
        yield ok("tokens", f"The key of {kind} can be used.")
    else:
        yield await _check_key_set(settings.jwks_url, settings.jwt_algorithm, timeout)


async def _check_key_set(url: str, algorithm: str | None, timeout: float) -> Finding:  # noqa: ASYNC109
    # The URL may hold a password or a key.
    where = httpx.URL(url)
    place = where.host
    problem = ""
    try:
        with trio.fail_after(timeout):
            async with make_http_client() as client:
                document = await _download(client, where)
        keys = parse_key_set(document, algorithm)
    except trio.TooSlowError:
        problem = f"no answer within {timeout:g} s"
    except (httpx.HTTPError, OSError) as error:
        problem = str(error) or type(error).__name__
    except ValueError as error:
        problem = str(error)
    if problem:
        return failed(
            "jwks-url",
            f"No key set from {place}: {problem.rstrip('.')}.",
            "No token is accepted until it can be fetched: see to jwks-url, DNS, firewall and certificate.",
        )
    if where.scheme == "http" and place not in _LOOPBACK:
        return warning(
            "jwks-url",
            f"The key set of {place} comes without TLS: who is between may put in a key of their own.",
            "Use https://.",
        )
    return ok("jwks-url", f"{place} publishes {keys.count} usable key{'s' * (keys.count != 1)}.")


async def _download(client: httpx.AsyncClient, url: httpx.URL) -> bytes:
    document = bytearray()
    async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"the answer was HTTP {response.status_code}")
        # As the daemon does: leaving the loop would leave httpx's generators unfinished behind.
        with trio.CancelScope() as scope:
            async for chunk in response.aiter_bytes():
                document += chunk
                if len(document) > _MOST_BYTES:
                    scope.cancel()
    if len(document) > _MOST_BYTES:
        raise ValueError(f"the answer is larger than {_MOST_BYTES} bytes")
    return bytes(document)
