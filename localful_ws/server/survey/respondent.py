"""What a node says of itself when it is asked: its counts, its users, a user's devices.

Whoever looks must not be felt by devices: long lists are gone through in portions, with everybody else's turn
in between.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

import trio

from localful_ws.metrics import Metrics
from localful_ws.routing import Router
from localful_ws.server.device import Device
from localful_ws.server.survey.questions import (
    Answer,
    DevicesAnswer,
    DevicesQuestion,
    DeviceView,
    MetricsAnswer,
    MetricsQuestion,
    Question,
    UserCount,
    UsersAnswer,
    UsersQuestion,
    within_bounds,
)

_USERS_AT_A_TIME: Final = 2000
_DEVICES_AT_A_TIME: Final = 200


class Respondent:
    """Answers for one node.

    Args:
        router: Knows the users and their devices.
        metrics: What the node has counted.
    """

    def __init__(self, router: Router[Device], metrics: Metrics) -> None:
        self._router = router
        self._metrics = metrics

    async def answer(self, question: Question) -> Answer:
        """Answer a question, of this node alone."""
        match question:
            case MetricsQuestion():
                return MetricsAnswer(self._metrics.families())
            case UsersQuestion():
                return await self._users(question)
            case DevicesQuestion():
                return await self._devices(question)

    async def _users(self, question: UsersQuestion) -> UsersAnswer:
        limit = question.limit
        names = self._router.names()
        first: list[str] = []
        for start in range(0, len(names), _USERS_AT_A_TIME):
            some = _chosen(names[start : start + _USERS_AT_A_TIME], question)
            if len(first) > limit:
                some = (user for user in some if user < first[-1])
            first = heapq.nsmallest(limit + 1, [*first, *some])
            await trio.lowlevel.checkpoint()
        counts = [UserCount(user, self._router.count(user)) for user in first[:limit]]
        # Some may have left while others had their turn.
        return UsersAnswer([count for count in counts if count.connections], len(first) > limit)

    async def _devices(self, question: DevicesQuestion) -> DevicesAnswer:
        devices = [
            device
            for device in self._router.devices_of(question.user)
            if question.group is None or (device.session and device.session.group == question.group)
        ]
        views: list[DeviceView] = []
        for view in within_bounds(_views(devices, question.vaults)):
            views.append(view)
            if len(views) % _DEVICES_AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
        return DevicesAnswer(views, len(devices))


def _chosen(names: Iterable[str], question: UsersQuestion) -> Iterable[str]:
    return (user for user in names if user > question.after and user.startswith(question.prefix))


def _views(devices: Iterable[Device], vaults: int) -> Iterator[DeviceView]:
    for device in devices:
        session = device.session
        if session is not None:
            subscription = device.subscription
            events, size = device.waiting()
            yield DeviceView(
                group=session.group,
                state=device.state.value,
                connected_at=device.connected_at,
                issued_at=session.issued_at,
                expires_at=session.expires_at,
                subscribed=len(subscription),
                vaults=list(subscription[:vaults]),
                waiting_events=events,
                waiting_bytes=size,
            )
