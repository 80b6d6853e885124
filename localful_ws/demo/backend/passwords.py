"""Passwords are kept as scrypt hashes (RFC 7914), each with its own salt."""

import hashlib
import hmac
import secrets

_MEMORY = 256 * 1024 * 1024


def hash_password(password: str, cost: int) -> str:
    """Hash a password. This takes a while, on purpose: run it on a thread.

    Args:
        password: What the user typed.
        cost: The parameter ``n`` of scrypt, a power of two.
    """
    salt = secrets.token_bytes(16)
    return f"scrypt${cost}${salt.hex()}${_derive(password, salt, cost).hex()}"


def check_password(password: str, hashed: str) -> bool:
    """Whether a password is the one that was hashed. As slow as `hash_password`."""
    _, cost, salt, derived = hashed.split("$")
    return hmac.compare_digest(_derive(password, bytes.fromhex(salt), int(cost)), bytes.fromhex(derived))


def _derive(password: str, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=8, p=1, maxmem=_MEMORY)
