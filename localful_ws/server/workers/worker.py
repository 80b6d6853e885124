"""``python -m localful_ws.server.workers.worker FD``: one of several workers, started by a `Supervisor`.

All it is told comes over the socketpair with that file descriptor. When the other end of it is gone, however
the parent ended, the worker drains and ends.
"""

import os
import pickle
import socket
import sys
from contextlib import suppress
from typing import Final

import structlog
import trio

from localful_ws.logs import configure_logging
from localful_ws.server.daemon import Daemon
from localful_ws.server.listeners import ListenError
from localful_ws.server.run import serve_until_signalled
from localful_ws.server.survey.questions import Answer, Answered, Ask, MetricsQuestion, Question
from localful_ws.server.survey.respondent import Respondent
from localful_ws.server.workers.messages import (
    BrokenChannelError,
    Channel,
    Drain,
    Failed,
    Ready,
    Start,
    ToWorker,
    worker_end,
)
from localful_ws.settings import Settings, SettingsError
from localful_ws.wakeup import Future

_log = structlog.get_logger(__name__)

_SETTINGS_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 5.0
_MOST_ASKED: Final = 64
# Less than the parent allows before it kills.
_MARGIN_SECONDS: Final = 3.0
_LAST_WORDS_SECONDS: Final = 1.0


def main() -> None:
    """Be a worker; ends with the exit status of a daemon."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    # Children of ours, were there any, must not keep the parent from seeing our end.
    sock.set_inheritable(False)
    sys.exit(trio.run(_be_worker, sock))


async def _be_worker(sock: socket.socket) -> int:
    channel = worker_end(sock)
    start = None
    with trio.move_on_after(_SETTINGS_SECONDS):
        start = await channel.receive()
    if not isinstance(start, Start):
        return 1
    settings: Settings = pickle.loads(start.settings)  # noqa: S301 - our parent's, over a socket of our own
    configure_logging(settings.log_format, settings.log_level)
    structlog.contextvars.bind_contextvars(worker=os.getpid())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.send_posted)
        status = await Worker(settings, channel).run()
        channel.finish()
        nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_SECONDS
    channel.close()
    return status


class Worker:
    """A daemon that shares its ports, and what connects it with its parent.

    Args:
        settings: The daemon's settings.
        channel: What leads to the parent.
    """

    def __init__(self, settings: Settings, channel: Channel[ToWorker]) -> None:
        self._settings = settings
        self._channel = channel
        self._daemon: Daemon | None = None
        self._respondent: Respondent | None = None
        self._serving = trio.CancelScope()
        self._orphaned = False
        self._wanted = 0
        self._waiting: dict[int, tuple[Question, Future[Answer | None]]] = {}
        # Questions from the parent; there are few at a time.
        self._ask, self._asked = trio.open_memory_channel[Ask](_MOST_ASKED)

    async def run(self) -> int:
        """Serve until told to end; returns the exit status."""
        status = 0
        try:
            self._daemon = Daemon(self._settings, ask_all=self._ask_all)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                nursery.start_soon(self._answer)
                with self._serving:
                    impatient_signal = await serve_until_signalled(self)
                    status = 0 if impatient_signal is None else 128 + impatient_signal
                nursery.cancel_scope.cancel()
        except* ListenError as errors:
            status = 1
            self._channel.post(Failed(_sentence(errors), listening=True))
        except* SettingsError as errors:
            status = 2
            self._channel.post(Failed(_sentence(errors), listening=False))
        except* Exception:
            status = 1
            _log.exception("a worker failed")
        if self._serving.cancelled_caught:
            _log.warning("the end took too long: what was under way is dropped")
        if self._respondent is not None:
            metrics = MetricsQuestion()
            self._channel.post(Answered(0, metrics, await self._respondent.answer(metrics)))
        return status

    def shut_down(self) -> None:
        """Begin to drain, in bounded time."""
        if self._daemon is not None:
            self._daemon.shut_down()
            seconds = self._settings.drain_seconds + self._settings.publish_timeout + _MARGIN_SECONDS
            self._serving.deadline = min(self._serving.deadline, trio.current_time() + seconds)

    async def serve(self) -> None:
        """Serve until `shut_down`."""
        if self._daemon is not None:
            async with trio.open_nursery() as nursery:
                self._respondent = await nursery.start(self._daemon.serve)
                self._channel.post(Ready())

    async def _listen(self) -> None:
        """Do what the parent says until it is gone."""
        try:
            while (message := await self._channel.receive()) is not None:
                self._take(message)
        except BrokenChannelError:
            pass
        _log.warning("the parent process is gone: draining")
        self._orphaned = True
        for _, answer in self._waiting.values():
            answer.set(None)
        self.shut_down()

    def _take(self, message: ToWorker) -> None:
        match message:
            case Drain():
                self.shut_down()
            case Ask():
                # One that finds no place is answered by silence, and the parent does not wait for ever.
                with suppress(trio.WouldBlock):
                    self._ask.send_nowait(message)
            case Answered():
                for number, (question, answer) in self._waiting.items():
                    if number <= message.number and question == message.question:
                        answer.set(message.answer)
            case Start():
                pass

    async def _answer(self) -> None:
        """Answer the parent for this worker."""
        async for asked in self._asked:
            if self._respondent is not None:
                answer = await self._respondent.answer(asked.question)
                self._channel.post(Answered(asked.number, asked.question, answer))

    async def _ask_all(self, question: Question) -> Answer | None:
        """Have all workers answer; None if the parent does not tell."""
        if self._orphaned:
            return None
        self._wanted += 1
        number = self._wanted
        answer = Future[Answer | None]()
        self._waiting[number] = question, answer
        try:
            self._channel.post(Ask(number, question))
            with trio.move_on_after(_ANSWER_SECONDS):
                return await answer.wait()
            return None
        finally:
            del self._waiting[number]


def _sentence(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


if __name__ == "__main__":
    main()
