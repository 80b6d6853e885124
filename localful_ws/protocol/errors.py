"""The two kinds of error: the device's and our own."""

from localful_ws.protocol.close_codes import CloseCode


class MessageError(Exception):
    """The device sent something this protocol does not have.

    Attributes:
        code: What to close with, if the connection is to be closed.
        message: A sentence that the device's developer can act on.
        id: The ``id`` of the message, where it had a usable one.
    """

    def __init__(self, message: str, *, id: str | None = None) -> None:  # noqa: A002 - the protocol's word
        super().__init__(message)
        self.code = CloseCode.BAD_MESSAGE
        self.message = message
        self.id = id


class LocalProtocolError(Exception):
    """The caller used the protocol object in a way its state does not allow: a bug on our side."""
