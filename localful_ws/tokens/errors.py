"""Why a token did not become a session."""


class TokenRejectedError(Exception):
    """The token does not hold, and will not hold when it is sent again.

    Attributes:
        message: A sentence for the device's developer. Never the token, a part of it, or a key.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class VerifierUnavailableError(Exception):
    """The token cannot be judged now: the keys to check it with have not been fetched. Later it may be.

    Attributes:
        message: A sentence for the device's developer.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
