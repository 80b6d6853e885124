"""Verifiers of access tokens that are slow, away, or broken."""

import trio
from attrs import define

from localful_ws.clock import Clock
from localful_ws.protocol import Session
from localful_ws.tokens import StaticKeyVerifier, TokenRules, TokenVerifier, VerifierUnavailableError
from tests.world import SECRET, STARTED


@define
class SlowVerifier:
    """Judges as the real one, but takes its time, is away, or fails.

    Attributes:
        judge: The real one.
        seconds: How long it takes.
        ready: Whether it is there at all.
        failure: What it raises.
        asked: How often it was asked.
        waits: See `TokenVerifier`.
    """

    judge: TokenVerifier
    seconds: float = 0.0
    ready: bool = True
    failure: Exception | None = None
    asked: int = 0
    waits: bool = True

    async def verify(self, token: str) -> Session:
        self.asked += 1
        await trio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        if not self.ready:
            raise VerifierUnavailableError("There are no keys yet.")
        return await self.judge.verify(token)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()


def slow_verifier(
    seconds: float = 0.0, *, ready: bool = True, failure: Exception | None = None
) -> SlowVerifier:
    """Make one for a world that is about to begin."""
    clock = Clock(lambda: STARTED)
    return SlowVerifier(StaticKeyVerifier(SECRET, "HS256", TokenRules(), clock.now), seconds, ready, failure)
