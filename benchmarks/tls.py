"""TLS between devices and a server: a certificate for one run, and a device's side of it."""

import ssl
from pathlib import Path

from benchmarks.setup import variable


def certificate(directory: Path) -> dict[str, str]:
    """Make a certificate for the loopback address; what a server is told of it."""
    import trustme  # noqa: PLC0415 - comes with what the tests need, and most runs do without

    made = trustme.CA().issue_cert("127.0.0.1")
    chain, key = directory / "chain.pem", directory / "key.pem"
    for part in made.cert_chain_pems:
        part.write_to_path(chain, append=True)
    made.private_key_pem.write_to_path(key)
    return {variable("tls-cert"): str(chain), variable("tls-key"): str(key)}


class TlsSocket(ssl.SSLSocket):
    """Says, as other sockets do, that there is nothing to receive yet."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive what has come of one record.

        Raises:
            BlockingIOError: Not all of it has come.
        """
        try:
            return super().recv(buflen, flags)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None


CONTEXT = ssl.create_default_context()
CONTEXT.sslsocket_class = TlsSocket
# It is the server that is measured, and there is no doubt who that is.
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE
