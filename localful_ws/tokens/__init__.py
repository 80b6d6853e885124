"""Access tokens: a JWT in, a session out (spec/protocol.md, "Access token").

`TokenVerifier` is what the rest of the server knows. There are two: `StaticKeyVerifier` for one secret or
public key out of the settings, `JwksVerifier` for a key set behind a URL. Neither takes the algorithm from
the token. PyJWT checks the signature; the claims are checked here, against the server's own clock.
"""

from localful_ws.tokens.claims import TokenRules
from localful_ws.tokens.errors import TokenRejectedError, VerifierUnavailableError
from localful_ws.tokens.jwks import JwksLimits, JwksVerifier
from localful_ws.tokens.keys import ALGORITHMS, MIN_SECRET_BYTES, PublicKey, load_public_key
from localful_ws.tokens.mint import mint_token
from localful_ws.tokens.static import StaticKeyVerifier
from localful_ws.tokens.verifier import TokenVerifier

__all__ = [
    "ALGORITHMS",
    "MIN_SECRET_BYTES",
    "JwksLimits",
    "JwksVerifier",
    "PublicKey",
    "StaticKeyVerifier",
    "TokenRejectedError",
    "TokenRules",
    "TokenVerifier",
    "VerifierUnavailableError",
    "load_public_key",
    "mint_token",
]
