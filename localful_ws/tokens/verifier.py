"""The interface between the server and whatever checks access tokens."""

from typing import Protocol

import trio

from localful_ws.protocol import Session


class TokenVerifier(Protocol):
    """Checks access tokens. All methods belong to the Trio thread; `verify` may run in many tasks at once."""

    @property
    def ready(self) -> bool:
        """Whether tokens can be judged: there is a key to check them with."""
        ...

    @property
    def waits(self) -> bool:
        """Whether `verify` may have to wait for something."""
        ...

    async def verify(self, token: str) -> Session:
        """Check a token and say who it is for.

        A token must be a JWT, not longer than ``TokenRules.max_token_length``, signed with the algorithm of
        the key it is checked against, with claims as `TokenRules` describes. If this has to wait, then for a
        bounded time only.

        Args:
            token: What the device sent, whatever it is.

        Raises:
            TokenRejectedError: If the token does not hold.
            VerifierUnavailableError: If that cannot be said just now.
        """
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the verifier's background work until cancelled, for ``nursery.start``; run it once.

        It reports as started at once, not when `ready`. A verifier without background work returns.
        """
        ...
