"""One answer out of those of several workers."""

import operator
from collections import Counter
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from localful_ws.metrics import Family
from localful_ws.server.survey.questions import (
    Answer,
    DevicesAnswer,
    DevicesQuestion,
    MetricsAnswer,
    MetricsQuestion,
    Question,
    UserCount,
    UsersAnswer,
    UsersQuestion,
    within_bounds,
)

# A sum says nothing of these. All that isn't named here is summed.
_CHOSEN: Final = {
    "localful_ws_engine_up": min,
    "localful_ws_draining": max,
    "localful_ws_send_buffer_peak_events": max,
    "localful_ws_send_buffer_peak_bytes": max,
    "process_start_time_seconds": min,
}

A = TypeVar("A", bound=Answer)


def merge(question: Question, answers: Iterable[Answer]) -> Answer:
    """Make one answer of several to the same question; those to another are left out.

    Counters, histograms and most gauges are summed. Of a peak, or a moment, it is the greatest or the least.
    A user may have devices at more than one worker.
    """
    match question:
        case MetricsQuestion():
            families: dict[str, Family] = {}
            for answer in _of(MetricsAnswer, answers):
                for family in answer.families:
                    known = families.get(family.name)
                    families[family.name] = family if known is None else _add(known, family)
            return MetricsAnswer(list(families.values()))
        case UsersQuestion():
            pages = _of(UsersAnswer, answers)
            connections = Counter[str]()
            for page in pages:
                connections.update({count.user: count.connections for count in page.users})
            # A worker leaves out only what comes after as many users as are asked for.
            first = [UserCount(user, connections[user]) for user in sorted(connections)[: question.limit]]
            return UsersAnswer(first, any(page.more for page in pages) or len(connections) > question.limit)
        case DevicesQuestion():
            parts = _of(DevicesAnswer, answers)
            devices = [device for part in parts for device in part.devices]
            devices.sort(key=lambda device: device.connected_at)
            return DevicesAnswer(list(within_bounds(devices)), sum(part.total for part in parts))


def _of(kind: type[A], answers: Iterable[Answer]) -> list[A]:
    return [answer for answer in answers if isinstance(answer, kind)]


def _add(one: Family, other: Family) -> Family:
    choose = _CHOSEN.get(one.name, operator.add)
    samples = dict(one.samples)
    for key, value in other.samples.items():
        samples[key] = choose(samples[key], value) if key in samples else value
    return msgspec.structs.replace(one, samples=samples)
