"""The daemon: two listeners, a node between them, and how it ends."""

import signal
import ssl
import sys
from functools import partial

import structlog
import trio
from attrs import frozen

from localful_ws.engine.memory import MemoryEngine
from localful_ws.server.clock import Clock
from localful_ws.server.collector import tuned_collector
from localful_ws.server.internal import build_app, serve_internal
from localful_ws.server.listeners import address, bind, tls_context
from localful_ws.server.node import Node
from localful_ws.server.tcp import TcpStream, accept_connections
from localful_ws.server.transport import ACCEPTERS
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings

_log = structlog.get_logger(__name__)
_INTERNAL_BACKLOG = 512


@frozen
class Addresses:
    """Where a daemon listens, as host and port."""

    websocket: tuple[str, int]
    internal: tuple[str, int]


def run(settings: Settings) -> None:
    """Run the daemon until a signal ends it.

    The first SIGTERM or SIGINT drains it, and it returns. A second ends it at once.

    Raises:
        SystemExit: With 128 and the signal's number, after a second signal.
        localful_ws.server.listeners.ListenError: If an address can't be listened on.
        localful_ws.settings.SettingsError: If a setting turns out to be impossible.
    """
    daemon = Daemon(settings)
    impatient_signal = trio.run(_run_until_signalled, daemon)
    if impatient_signal is not None:
        sys.exit(128 + impatient_signal)


async def _run_until_signalled(daemon: "Daemon") -> int | None:
    impatient_signal = None
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

            async def watch() -> None:
                nonlocal impatient_signal
                number = await anext(signals)
                _log.info("draining", signal=signal.Signals(number).name)
                daemon.shut_down()
                impatient_signal = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await daemon.serve()
            nursery.cancel_scope.cancel()
    return impatient_signal


class Daemon:
    """Listens for devices and publishers. Its sockets are bound when it is made.

    Args:
        settings: The daemon's settings.

    Raises:
        localful_ws.server.listeners.ListenError: If an address can't be listened on.
        localful_ws.settings.SettingsError: If the TLS files can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls = tls_context(settings.tls_cert, settings.tls_key)
        self._websocket = bind(settings.host, settings.port, setting="port", backlog=settings.backlog)
        self._internal = bind(
            settings.internal_host, settings.internal_port, setting="internal-port", backlog=_INTERNAL_BACKLOG
        )
        self.addresses = Addresses(address(self._websocket), address(self._internal))
        self._shutdown = trio.Event()

    def shut_down(self) -> None:
        """Begin to drain; `serve` returns when that is done."""
        self._shutdown.set()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `shut_down`, drain, and return."""
        settings = self._settings
        clock = Clock()
        engine = MemoryEngine(settings.publish_queue, settings.publish_timeout)
        node = Node(
            settings,
            clock,
            build_verifier(settings, clock.now),
            engine,
            ACCEPTERS[settings.transport],
        )
        internal_stop = trio.Event()
        async with trio.open_nursery() as node_nursery:
            connections = await node_nursery.start(node.run)
            async with trio.open_nursery() as edge:
                await edge.start(self._serve_internal, node, internal_stop)
                listening = trio.CancelScope()
                await edge.start(self._listen, node, connections, listening)
                self._log_addresses()
                with tuned_collector(settings.gc_threshold, node.metrics.observe_gc_pause):
                    task_status.started()
                    await self._shutdown.wait()
                    listening.cancel()
                    await node.drain(settings.drain_seconds)
                # Publishers under way are answered to the end.
                internal_stop.set()
            await engine.aclose()
            node_nursery.cancel_scope.cancel()
        _log.info("stopped")

    async def _listen(
        self,
        node: Node,
        connections: trio.Nursery,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        serve = node.serve_stream if self._tls is None else partial(_serve_tls, node, self._tls)
        with self._websocket, scope:
            task_status.started()
            await accept_connections(self._websocket, serve, connections)

    async def _serve_internal(
        self, node: Node, stop: trio.Event, *, task_status: trio.TaskStatus[None]
    ) -> None:
        settings = self._settings
        app = build_app(
            node,
            publisher_key=settings.publisher_key,
            limits=settings.publish_limits(),
            metrics=node.metrics,
            now=node.clock.now,
        )
        await serve_internal(
            app,
            self._internal,
            shutdown=stop,
            graceful_timeout=settings.publish_timeout,
            task_status=task_status,
        )

    def _log_addresses(self) -> None:
        host, port = self.addresses.websocket
        path, tls = self._settings.path, self._tls is not None
        _log.info("listening", listener="websocket", host=host, port=port, path=path, tls=tls)
        host, port = self.addresses.internal
        _log.info("listening", listener="internal", host=host, port=port)


async def _serve_tls(node: Node, context: ssl.SSLContext, stream: TcpStream) -> None:
    await node.serve_stream(trio.SSLStream(stream, context, server_side=True, https_compatible=True))
