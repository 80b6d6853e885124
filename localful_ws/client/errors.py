"""What a client can end with. No message holds a token."""


class ClientError(Exception):
    """Anything the client raises of its own."""


class ClosedByServerError(ClientError):
    """The server closed the connection in a way that means: don't come back.

    Attributes:
        code: The WebSocket close code.
        reason: Its reason word.
        message: The server's sentence, if it sent an ``error`` first, or ours.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({code} {reason})" if reason else f"{message} ({code})")
        self.code = code
        self.reason = reason
        self.message = message


class RefusedByServerError(ClientError):
    """The server refused the WebSocket handshake in a way that means: don't come back.

    Attributes:
        status: The HTTP status.
        message: The server's sentence, or ours.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (HTTP {status})")
        self.status = status
        self.message = message


class ServerMessageError(ClientError):
    """The server sent what this protocol does not have; there is something else at that URL."""


class RequestRefusedError(ClientError):
    """The server answered a request with an ``error``; the connection goes on, and nothing has changed.

    Attributes:
        code: The error's code word, such as ``too-many-vaults``.
        message: The server's sentence.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class NoAnswerError(ClientError):
    """No answer came in time. What was asked for is asked for again with the next connection."""


class ClientClosedError(ClientError):
    """The client was closed from our side, and something still waited for it."""


class TokenUnavailableError(ClientError):
    """For ``get_token`` to raise: there is no token just now, ask again later."""
