"""What the answer to a handshake says of the proxy that it came through, and what to change."""

import ssl
from typing import Final

from localful_ws.checks.finding import Finding, failed
from localful_ws.checks.probe import Answer
from localful_ws.client.endpoint import Endpoint
from localful_ws.settings import Settings

CHECK: Final = "public url"

PASS_UPGRADE: Final = (
    "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade"; Apache: ProxyPass with upgrade=websocket; '
    "balancers: let the listener speak HTTP/1.1 and allow WebSockets."
)
_INTERNAL: Final = (
    "Devices connect to the other port.",
    "There is nothing here; events are published at",
    "This server is not asked by that name",
)


def judge_refusal(answer: Answer, endpoint: Endpoint, settings: Settings) -> Finding:
    """Judge an answer other than 101 to a handshake as devices send it."""
    if 300 <= answer.status < 400:
        return _judge_redirect(answer, endpoint)
    if answer.message.startswith(_INTERNAL):
        return failed(
            CHECK,
            "The proxy leads to the internal port, which is none for devices and must not be public.",
            f"Have it lead to port {settings.port}, and nothing to {settings.internal_port}.",
        )
    if answer.identifier:
        return _judge_ours(answer, endpoint, settings)
    return _judge_proxys(answer, endpoint, settings)


def _judge_redirect(answer: Answer, endpoint: Endpoint) -> Finding:
    # What a query holds may be secret.
    target = answer.headers.get("location", "").partition("?")[0]
    if target.startswith(("https://", "wss://")) and not endpoint.tls:
        return failed(
            CHECK,
            f"HTTP {answer.status}: plain connections are redirected to TLS, and devices follow no redirect.",
            "Give devices a URL that begins with wss://.",
        )
    return failed(
        CHECK,
        f"HTTP {answer.status}: the proxy redirects to {target or 'somewhere'}; devices follow no redirect.",
        f"Have it pass {endpoint.target.partition('?')[0]} as it is, or give devices the other URL.",
    )


def _judge_ours(answer: Answer, endpoint: Endpoint, settings: Settings) -> Finding:
    """It is the daemon that refused: what arrived there is not what was sent."""
    path = endpoint.target.partition("?")[0]
    said = f"HTTP {answer.status} from the daemon"
    match answer.identifier:
        case "upgrade-required" | "method-not-allowed":
            return failed(
                CHECK,
                f"{said}: the request arrives, but no longer as a WebSocket handshake ({answer.message})",
                f"Have the proxy pass Upgrade and Connection on, over HTTP/1.1. {PASS_UPGRADE}",
            )
        case "not-found" if path == settings.path:
            return failed(
                CHECK,
                f"{said}: the proxy rewrites the path; {path} does not arrive as {settings.path}.",
                "nginx: proxy_pass without a path or slash behind the port; Caddy: handle, not handle_path, "
                "and no uri strip_prefix; or set path to what arrives.",
            )
        case "not-found":
            return failed(
                CHECK,
                f"{said}: {path} arrives as a path that is not its endpoint, {settings.path}.",
                f"Give devices {settings.path}, have the proxy rewrite it, or set path to what arrives.",
            )
        case "origin-not-allowed":
            return failed(
                CHECK,
                f"{said}: an Origin arrives that allow-origin does not list, though none was sent.",
                "Have the proxy leave the header Origin as it is.",
            )
        case "unauthorized" | "invalid-token" | "token-expired":
            return failed(
                CHECK,
                f"{said}: an Authorization arrives that was not sent.",
                "Have the proxy leave the header Authorization as it is.",
            )
    return failed(
        CHECK,
        f"{said}: {answer.message or answer.identifier}",
        "Draining and too many connections pass; otherwise see what the proxy does to the request.",
    )


def _judge_proxys(answer: Answer, endpoint: Endpoint, settings: Settings) -> Finding:  # noqa: PLR0911
    """It is the proxy that answered, or something else behind it."""
    path = endpoint.target.partition("?")[0]
    said = f"HTTP {answer.status}, and not from the daemon"
    plain = b"plain HTTP request" in answer.body or b"HTTP request to an HTTPS" in answer.body
    match answer.status:
        case 400 if plain and not endpoint.tls:
            return failed(CHECK, f"{said}: that port speaks TLS.", "Begin the URL with wss://.")
        case 400 | 405 | 426 | 501:
            return failed(
                CHECK,
                f"{said}: no WebSocket is opened; most likely Upgrade and Connection are not passed on.",
                PASS_UPGRADE,
            )
        case 200 | 201 | 204:
            return failed(
                CHECK,
                f"{said}: something answers {path} as a page; Upgrade is not passed on, or the path leads "
                "elsewhere.",
                f"Have the proxy pass {path} to port {settings.port}. {PASS_UPGRADE}",
            )
        case 401 | 403 | 407:
            return failed(
                CHECK,
                f"{said}: the proxy lets nobody in without a login of its own, or blocks the request.",
                f"Take {path} out of its access rules; the daemon checks tokens itself.",
            )
        case 404 | 410 | 421:
            return failed(
                CHECK,
                f"{said}: the proxy knows no such host or path.",
                f"Add {endpoint.host} and {path} to its configuration, leading to port {settings.port}.",
            )
        case 502 | 503 | 504:
            return failed(
                CHECK,
                f"{said}: the proxy does not reach the daemon, or gets no answer that it understands.",
                f"Look whether the daemon runs, whether the proxy leads to {settings.host}:{settings.port} "
                "as seen from the proxy (in a container 127.0.0.1 is the container), whether both agree on "
                f"TLS, and whether Upgrade is passed on. {PASS_UPGRADE}",
            )
    return failed(CHECK, f"{said}.", f"See what the proxy does with {path}. {PASS_UPGRADE}")


def judge_no_connection(error: BaseException, endpoint: Endpoint) -> Finding:
    """Judge why there is no answer at all."""
    place = f"{endpoint.host}:{endpoint.port}"
    cause = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        # One for each address of the host.
        cause = cause.exceptions[0]
    if isinstance(cause, ssl.SSLCertVerificationError):
        return failed(CHECK, f"The certificate is refused: {cause.verify_message}.", _cure(cause, endpoint))
    if isinstance(cause, ssl.SSLError):
        return failed(
            CHECK,
            f"{place} does not speak TLS: {cause.reason or 'the handshake failed'}.",
            "Give the proxy a certificate and have it speak TLS there, or correct the port.",
        )
    why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return failed(
        CHECK,
        f"No connection to {place}: {why}.",
        "Look at DNS, the firewall, and whether the proxy listens.",
    )


def _cure(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> str:
    text = error.verify_message.lower()
    if "hostname mismatch" in text or "not valid for" in text or "ip address mismatch" in text:
        return f"Have the proxy show a certificate that names {endpoint.host}, or use the name it is for."
    if "expired" in text:
        return "Renew it, and reload the proxy."
    if "self" in text or "issuer" in text:
        return (
            "Use a certificate of an authority that devices know, and have the proxy send the whole chain "
            "(fullchain.pem); one of your own: SSL_CERT_FILE names it here."
        )
    return "See to the certificate of the proxy."
