"""Keys and the one algorithm that goes with each (RFC 7518, section 3)."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

SECRET_ALGORITHM = "HS256"
"""The algorithm of a shared secret."""

ALGORITHMS = (SECRET_ALGORITHM, "RS256", "ES256", "EdDSA")
"""Every algorithm a token may be signed with."""

MIN_SECRET_BYTES = 32
"""The shortest secret, in bytes: as long as the hash it keys (RFC 7518, section 3.2)."""

_MIN_RSA_BITS = 2048


def check_secret(secret: bytes) -> None:
    """Refuse a secret that is none.

    Raises:
        ValueError: If it is shorter than 32 bytes, or is a key of a pair: the public one is known to all.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(
            f"The secret has {len(secret)} bytes and needs at least {MIN_SECRET_BYTES}; "
            "make one with: openssl rand -hex 32"
        )
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise ValueError(
            "The secret is a public key, private key or certificate; a public key belongs in its own setting."
        ) from None


def load_public_key(pem: bytes, algorithm: str | None = None) -> tuple[PublicKey, str]:
    """Read a public key that tokens are checked with.

    Args:
        pem: The contents of a PEM file: an RSA key of at least 2048 bits, an EC key on P-256, or Ed25519.
        algorithm: The algorithm the settings ask for; None takes the key's own.

    Returns:
        The key and its algorithm: RS256, ES256 or EdDSA.

    Raises:
        ValueError: If it is no such key, is a private one, or does not go with ``algorithm``. The message is
            a sentence and holds nothing of the key.
    """
    if b"PRIVATE KEY-----" in pem:
        raise ValueError(
            "This is a private key, which the server must not have; "
            "extract the public one with: openssl pkey -in private.pem -pubout"
        )
    if b"CERTIFICATE-----" in pem:
        raise ValueError(
            "This is a certificate; extract its public key with: openssl x509 -in cert.pem -pubkey -noout"
        )
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("This is no public key in PEM format (BEGIN PUBLIC KEY).") from None
    return check_public_key(key, algorithm)


def check_public_key(key: object, algorithm: str | None = None) -> tuple[PublicKey, str]:
    """Find the algorithm of a key; see `load_public_key`.

    Raises:
        ValueError: If the key is of no known kind, is too weak, or does not go with ``algorithm``.
    """
    public_key, own = _algorithm_of(key)
    if algorithm is not None and algorithm != own:
        raise ValueError(f"This public key is for {own}, not for {algorithm}.")
    return public_key, own


def _algorithm_of(key: object) -> tuple[PublicKey, str]:
    if isinstance(key, RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            raise ValueError(f"The RSA key has {key.key_size} bits and needs at least {_MIN_RSA_BITS}.")
        return key, "RS256"
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.name != SECP256R1.name:
            raise ValueError(f"The EC key is on the curve {key.curve.name}; ES256 needs P-256.")
        return key, "ES256"
    if isinstance(key, Ed25519PublicKey):
        return key, "EdDSA"
    raise ValueError("A public key must be RSA, EC on P-256, or Ed25519.")
