"""A whole daemon without sockets, as scenes reach it: a world, its internal port, and what may befall it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
import trio
import trio.testing
from attrs import define

from localful_ws.clock import Clock
from localful_ws.conform.given import values_of
from localful_ws.conform.matching import Answer
from localful_ws.conform.network import announce_over
from localful_ws.conform.scenes import Scene
from localful_ws.engine import EngineUnavailableError, Position, Receipt
from localful_ws.engine.memory import MemoryEngine
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect
from localful_ws.server.http.app import build_app
from localful_ws.server.http.connection import HttpTimes
from localful_ws.server.http.server import HttpServer
from localful_ws.settings import Settings
from tests.redis_world import settle
from tests.server.verifiers import SlowVerifier, slow_verifier
from tests.world import PUBLISHER_KEY, World, open_world


class LosableEngine(MemoryEngine):
    """The memory engine, which can be away as if it were in another process."""

    is_away = False

    def unavailable(self) -> str | None:
        return "The engine is away." if self.is_away else None

    async def publish(self, events: Sequence[Event]) -> Receipt:
        self._be_there()
        return await super().publish(events)

    async def disconnect(self, disconnect: Disconnect) -> int:
        self._be_there()
        return await super().disconnect(disconnect)

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> None:
        self._be_there()
        await super().join(user, since, begin)

    def _be_there(self) -> None:
        if self.is_away:
            raise EngineUnavailableError("The engine is away.", retry_after=5)


@define(eq=False)
class MemorySite:
    """A world as a `localful_ws.conform.live.Site`."""

    world: World
    internal: httpx.AsyncClient
    server: HttpServer
    verifier: SlowVerifier
    engine: LosableEngine | None
    host: str = "localhost"
    path: str = "/v1/sync"
    publisher_key: str = PUBLISHER_KEY

    async def connect(self, *, slow: bool) -> trio.abc.Stream:
        # On a lockstep stream nothing is sent that is not just being received.
        return self.world.plug_in(
            trio.testing.lockstep_stream_pair if slow else trio.testing.memory_stream_pair
        )

    async def announce(self, request: httpx.Request, size: int) -> Answer:
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as serving:
            serving.start_soon(self.server.serve_stream, theirs)
            serving.start_soon(self.server.keep_time)
            answer = await announce_over(ours, request, size)
            serving.cancel_scope.cancel()
        return answer

    async def settle(self) -> None:
        await settle()

    async def happen(self, what: str) -> None:
        match what:
            case "drain":
                self.world.nursery.start_soon(self._drain)
            case "keys-away" | "keys-back":
                self.verifier.ready = what == "keys-back"
            case "engine-away" | "engine-back":
                assert self.engine is not None
                self.engine.is_away = what == "engine-away"
            case "events-missed":
                for user in {device.session.user for device in self.world.node.devices() if device.session}:
                    self.world.node.subscriber.lose(user)
            case "fault":
                self.verifier.failure = RuntimeError("a fault of the server's own")
        await settle()

    async def _drain(self) -> None:
        """Drain as the daemon does, and drop who is still there."""
        await self.world.node.drain(self.world.settings.drain_seconds)
        if self.world.node.devices():
            self.world.connections.cancel_scope.cancel()


@asynccontextmanager
async def open_memory_site(kind: str, scene: Scene) -> AsyncIterator[MemorySite]:
    """Run a world as a scene needs it; see `world.open_world` for its kinds."""
    engines: list[LosableEngine] = []

    def make_engine(settings: Settings, clock: Clock) -> LosableEngine:
        engines.append(LosableEngine(settings, clock))
        return engines[0]

    verifier = slow_verifier()
    changes = values_of(scene.given)
    async with open_world(kind, verifier=verifier, make_engine=make_engine, **changes) as world:
        settings = world.settings
        app = build_app(
            world.node,
            publisher_key=PUBLISHER_KEY,
            limits=settings.publish_limits(),
            body_budget=settings.publish_budget,
            survey=world.node.respondent.answer,
            now=world.node.clock.now,
            revocation_seconds=settings.revocation_seconds,
        )
        times = HttpTimes(body=settings.publish_body_timeout)
        server = HttpServer(app, max_connections=settings.max_internal_connections, times=times)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://localhost"
        ) as internal:
            yield MemorySite(world, internal, server, verifier, engines[0] if engines else None)
