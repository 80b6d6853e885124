"""A node of the simulation: the daemon's own, started, drained, killed and started again."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from random import Random
from typing import Any

import trio
from attrs import frozen

from localful_ws.clock import Clock
from localful_ws.engine import Engine, Entry
from localful_ws.engine.memory import MemoryEngine
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.protocol import Event, Session
from localful_ws.server.http.app import build_app
from localful_ws.server.node import Node
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings
from localful_ws.tokens import TokenVerifier

from .kernel import Kernel, OtherStream, SimulatedTcp
from .network import Link
from .plan import Plan

KEY = "the-key-of-the-publisher"


@frozen
class Answer:
    """What a publisher is answered; status 0 if the node was gone before."""

    status: int
    content: Mapping[str, Any]


class SimulatedNode:
    """One life of a node.

    Args:
        name: The node's name.
        settings: Its settings.
        unix_time: Where it reads the time of day, once.
        accepted: Called with each event that the memory engine gives its place.
        kernel: Its kernel.
        random: What it draws from.
        plan: What is true of all nodes.

    Attributes:
        ready: Whether it serves.
        serving: Set once it does, or has ended before.
        draining: Whether it has begun to drain.
        killed: Whether it was killed.
        stopped: Set at its end.
        most_events: The most events that it has had for one user at once.
        most_bytes: Their size.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        unix_time: Callable[[], float],
        accepted: Callable[[Event, Entry], None],
        kernel: Kernel,
        random: Random,
        plan: Plan,
    ) -> None:
        self.name = name
        self.settings = settings
        self.kernel = kernel
        self.ready = False
        self.draining = False
        self.killed = False
        self.serving = trio.Event()
        self.stopped = trio.Event()
        self._stop = trio.Event()
        self._scope = trio.CancelScope()
        self.clock = Clock(unix_time)
        self.engine: Engine
        if settings.engine == "memory":
            memory = MemoryEngine(settings, self.clock)
            _watch_history(memory, accepted)
            self.engine = memory
        else:
            self.engine = RedisEngine(settings, self.clock)
        verifier = _SlowVerifier(build_verifier(settings, self.clock.now), random, plan.verify_seconds)
        self.node = Node(settings, self.clock, verifier, self.engine, kernel.poller)
        self.most_events = self.most_bytes = 0
        self._watch_delivery()
        self._app = build_app(
            self.node,
            publisher_key=KEY,
            limits=settings.publish_limits(),
            body_budget=settings.publish_budget,
            survey=self.node.respondent.answer,
            now=self.clock.now,
            revocation_seconds=settings.revocation_seconds,
        )
        self.connections: trio.Nursery | None = None
        self._requests: trio.Nursery | None = None
        self._random = random
        self._other_streams = plan.other_streams

    def unix(self, moment: float) -> float:
        """A moment on Trio's clock as this node reads the time of day."""
        return moment + self.clock.now() - trio.current_time()

    async def run(self) -> None:
        """Live until stopped or killed, as `localful_ws.server.daemon.Daemon.serve` does."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                self.connections = await nursery.start(self.node.run)
                async with trio.open_nursery() as requests:
                    self._requests = requests
                    self.ready = True
                    self.serving.set()
                    await self._stop.wait()
                    self.draining = True
                    await self.node.drain(self.settings.drain_seconds)
                    self._requests = None
                    requests.cancel_scope.deadline = trio.current_time() + self.settings.publish_timeout
                await self.node.finish()
                nursery.cancel_scope.cancel()
        self.ready = False
        self.serving.set()
        self.stopped.set()

    def plug_in(self, link: Link) -> None:
        """Serve a connection."""
        assert self.connections is not None
        sock = self.kernel.accept(link)
        other = self._other_streams > self._random.random()
        self.connections.start_soon(
            self.node.serve_stream, OtherStream(sock) if other else SimulatedTcp(sock)
        )

    def _watch_delivery(self) -> None:
        delivery = self.node.subscriber.delivery
        deliver = delivery.deliver

        async def watched(entries: Sequence[Entry]) -> None:
            events, size = Counter[str](), Counter[str]()
            for entry in entries:
                events[entry.event.user] += 1
                size[entry.event.user] += len(entry.frame)
            self.most_events = max(self.most_events, 0, *events.values())
            self.most_bytes = max(self.most_bytes, 0, *size.values())
            await deliver(entries)

        delivery.deliver = watched  # type: ignore[method-assign]

    def stop(self) -> None:
        """Drain, and end."""
        self.draining = True
        self._stop.set()

    def kill(self) -> None:
        """End at once."""
        self.killed = True
        self.ready = False
        self._scope.cancel()

    async def request(self, path: str, content: object) -> Answer:
        """Ask the internal port; answered like a broken connection if the node is gone."""
        answers: list[Answer] = []
        done = trio.Event()

        async def ask() -> None:
            try:
                answers.append(await _ask(self._app, path, json.dumps(content).encode()))
            finally:
                done.set()

        if self._requests is None or not self.ready:
            return Answer(0, {})
        self._requests.start_soon(ask)
        await done.wait()
        return answers[0] if answers else Answer(0, {})


class _SlowVerifier:
    """Takes up to so many seconds for each token."""

    ready = True

    def __init__(self, judge: TokenVerifier, random: Random, seconds: float) -> None:
        self.run = judge.run
        self.waits = judge.waits or bool(seconds)
        self._judge = judge
        self._random = random
        self._seconds = seconds

    async def verify(self, token: str) -> Session:
        if self._seconds:
            await trio.sleep(self._random.uniform(0.0, self._seconds))
        return await self._judge.verify(token)


Scope = MutableMapping[str, Any]


async def _ask(app: Callable[[Scope, Any, Any], Awaitable[None]], path: str, body: bytes) -> Answer:
    """Make one request of an ASGI application."""
    status = 0
    parts = []

    async def receive() -> Scope:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Scope) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [
            (b"authorization", f"Bearer {KEY}".encode()),
            (b"content-length", b"%d" % len(body)),
        ],
    }
    await app(scope, receive, send)
    return Answer(status, json.loads(b"".join(parts)))


def _watch_history(engine: MemoryEngine, accepted: Callable[[Event, Entry], None]) -> None:
    history = engine._history
    append = history.append

    def watched(event: Event, now: float) -> Entry:
        entry = append(event, now)
        accepted(event, entry)
        return entry

    history.append = watched  # type: ignore[method-assign]
