"""A JSON Web Key Set, read (RFC 7517, section 5)."""

from typing import Any, Final

import jwt
from attrs import frozen
from cryptography.exceptions import UnsupportedAlgorithm

from localful_ws.protocol import decode_json
from localful_ws.tokens.keys import check_public_key
from localful_ws.tokens.signatures import VerificationKey

MAX_KEYS: Final = 100
"""Keys of a set that are looked at; the rest is ignored."""

_ALGORITHM_OF_TYPE: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
# What PyJWK and cryptography raise over a key whose members are missing, of odd types or out of range.
_UNUSABLE: Final = (
    jwt.PyJWTError,
    UnsupportedAlgorithm,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@frozen
class KeySet:
    """The usable keys of a set.

    Attributes:
        by_id: Keys by their ``kid``.
        only: The key, if there is exactly one, whether it has a ``kid`` or not.
        count: How many there are.
    """

    by_id: dict[str, VerificationKey]
    only: VerificationKey | None
    count: int

    def find(self, key_id: str | None) -> VerificationKey | None:
        """The key that a token names; for a token that names none, the only one."""
        return self.only if key_id is None else self.by_id.get(key_id)


def parse_key_set(document: bytes, algorithm: str | None) -> KeySet:
    """Read a key set.

    Usable are public keys for RS256, ES256 and EdDSA, by their type. Others are skipped, and so are keys that
    are private, too weak, damaged, meant for something else (``use``, ``key_ops``, ``alg``), or have the
    ``kid`` of an earlier one.

    Args:
        document: The JSON text in UTF-8.
        algorithm: The only algorithm wanted; None takes all three.

    Raises:
        ValueError: If it is no key set, or holds no usable key. The message says which.
    """
    members = _members(document)
    if members is None:
        raise ValueError("the answer is not a JSON Web Key Set")
    by_id: dict[str, VerificationKey] = {}
    keys: list[VerificationKey] = []
    for member in members[:MAX_KEYS]:
        key = _usable_key(member, algorithm)
        if key is None or member.get("kid") in by_id:
            continue
        keys.append(key)
        if "kid" in member:
            by_id[member["kid"]] = key
    if not keys:
        raise ValueError("the key set holds no key that can be used")
    return KeySet(by_id=by_id, only=keys[0] if len(keys) == 1 else None, count=len(keys))


def _members(document: bytes) -> list[Any] | None:
    try:
        parsed = decode_json(document.decode())
    except ValueError:
        return None
    members = parsed.get("keys") if isinstance(parsed, dict) else None
    return members if isinstance(members, list) else None


def _usable_key(member: Any, wanted: str | None) -> VerificationKey | None:
    if not isinstance(member, dict) or not isinstance(member.get("kid", ""), str):
        return None
    key_type = member.get("kty")
    algorithm = _ALGORITHM_OF_TYPE.get(key_type) if isinstance(key_type, str) else None
    if algorithm is None or wanted not in (None, algorithm) or not _is_meant_for(member, algorithm):
        return None
    try:
        key, _ = check_public_key(jwt.PyJWK.from_dict(member, algorithm).key, algorithm)
    except _UNUSABLE:
        return None
    return VerificationKey(key, algorithm)


def _is_meant_for(member: dict[str, Any], algorithm: str) -> bool:
    operations = member.get("key_ops", ["verify"])
    return (
        member.get("use", "sig") == "sig"
        and member.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
    )
