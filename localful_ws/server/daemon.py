"""The daemon: two listeners, a node between them, and how it ends."""

import ssl
from functools import partial

import structlog
import trio

from localful_ws.clock import Clock
from localful_ws.engine.build import build_engine
from localful_ws.server.collector import tuned_collector
from localful_ws.server.console.routes import Console
from localful_ws.server.http.app import build_app
from localful_ws.server.http.connection import HttpTimes
from localful_ws.server.http.server import HttpServer
from localful_ws.server.listeners import Addresses, ListenError, address, bind, log_addresses, tls_context
from localful_ws.server.node import Node
from localful_ws.server.notify import notify_ready, notify_stopping
from localful_ws.server.survey.questions import Survey
from localful_ws.server.survey.respondent import Respondent
from localful_ws.server.tls import TlsStream
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings
from localful_ws.tcp import TcpStream, accept_connections

_log = structlog.get_logger(__name__)
_INTERNAL_BACKLOG = 512


class Daemon:
    """Listens for devices and publishers. Its sockets are bound when it is made.

    Args:
        settings: The daemon's settings.
        ask_all: If it is one of several workers, has a question answered by all. The ports are shared with
            the others then, and what is true of all of them is left to their parent to log.

    Raises:
        localful_ws.server.listeners.ListenError: If an address can't be listened on.
        localful_ws.settings.SettingsError: If the TLS files can't be used.
    """

    def __init__(self, settings: Settings, *, ask_all: Survey | None = None) -> None:
        self._settings = settings
        self._ask_all = ask_all
        self._tls = tls_context(settings.tls_cert, settings.tls_key)
        shared = ask_all is not None
        self._websocket = bind(
            settings.host, settings.port, setting="port", backlog=settings.backlog, shared=shared
        )
        try:
            self._internal = bind(
                settings.internal_host,
                settings.internal_port,
                setting="internal-port",
                backlog=_INTERNAL_BACKLOG,
                shared=shared,
            )
        except ListenError:
            self._websocket.close()
            raise
        self.addresses = Addresses(address(self._websocket), address(self._internal))
        self._shutdown = trio.Event()

    def shut_down(self) -> None:
        """Begin to drain; `serve` returns when that is done."""
        if self._ask_all is None:
            notify_stopping("draining")
        self._shutdown.set()

    async def serve(self, *, task_status: trio.TaskStatus[Respondent] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `shut_down`, drain, and return.

        Starts, when connections are accepted, with what answers for this process alone.
        """
        settings = self._settings
        clock = Clock()
        engine = build_engine(settings, clock)
        node = Node(
            settings,
            clock,
            build_verifier(settings, clock.now),
            engine,
        )
        internal_stop = trio.Event()
        async with trio.open_nursery() as node_nursery:
            connections = await node_nursery.start(node.run)
            async with trio.open_nursery() as edge:
                await edge.start(self._serve_internal, node, internal_stop)
                listening = trio.CancelScope()
                await edge.start(self._listen, node, connections, listening)
                if self._ask_all is None:
                    log_addresses(self.addresses, settings.path, tls=self._tls is not None)
                    notify_ready("serving")
                with tuned_collector(settings.gc_threshold, node.metrics.observe_gc_pause):
                    task_status.started(node.respondent)
                    await self._shutdown.wait()
                    listening.cancel()
                    await node.drain(settings.drain_seconds)
                # Publishers under way are answered to the end.
                internal_stop.set()
            await node.finish()
            node_nursery.cancel_scope.cancel()
        if self._ask_all is None:
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
            await accept_connections(self._websocket, serve, connections, node.turn.wait_until_few_wait)

    async def _serve_internal(
        self, node: Node, stop: trio.Event, *, task_status: trio.TaskStatus[None]
    ) -> None:
        settings = self._settings
        survey = self._ask_all or node.respondent.answer
        app = build_app(
            node,
            publisher_key=settings.publisher_key,
            limits=settings.publish_limits(),
            body_budget=settings.publish_budget,
            survey=survey,
            now=node.clock.now,
            revocation_seconds=settings.revocation_seconds,
            allowed_hosts=settings.allow_host,
            console=Console(node, settings, survey) if settings.console == "on" else None,
        )
        server = HttpServer(
            app,
            max_connections=settings.max_internal_connections,
            times=HttpTimes(body=settings.publish_body_timeout),
        )
        await server.serve(
            self._internal,
            shutdown=stop,
            graceful_timeout=settings.publish_timeout,
            task_status=task_status,
        )


async def _serve_tls(node: Node, context: ssl.SSLContext, stream: TcpStream) -> None:
    await node.serve_stream(TlsStream(stream, context))
