"""Who was refused when, and whether a spell of trouble explains it. Pure: answers in, complaints out."""

import math
from collections.abc import Iterable, Sequence

from attrs import frozen

from .publisher import Answer
from .told import Sent


@frozen
class Spell:
    """A spell of trouble with Redis.

    Attributes:
        what: What it was.
        began: When it began, on Trio's clock; for one that refuses writes, when it surely had.
        ended: When Redis would serve all again; for one that refuses writes, when it surely still did.
        users: Whose events it concerns.
        refuses: Whether Redis refused every write in between.
    """

    what: str
    began: float
    ended: float
    users: frozenset[str]
    refuses: bool = False


@frozen
class Look:
    """What a node said of itself.

    Attributes:
        node: Its name.
        at: When, on Trio's clock.
        ready: Whether ``/readyz`` was 200; it is 503 otherwise.
    """

    node: str
    at: float
    ready: bool


def check_refusals(answers: Iterable[Answer], spells: Sequence[Spell], grace: float) -> list[str]:
    """See that no publish failed but of users whom a spell concerned, in it or a short time after."""
    return [
        f"a publish for {', '.join(sorted(answer.users))} came to {answer.status} at {answer.began:.2f} s,"
        f" after {answer.ended - answer.began:.2f} s"
        for answer in answers
        if answer.status != 202
        and not any(
            answer.users & spell.users and answer.began < spell.ended + grace and answer.ended > spell.began
            for spell in spells
        )
    ]


def check_waits(sent: Iterable[Sent], spells: Sequence[Spell], limit: float) -> list[str]:
    """See that no event took longer to be accepted than its spells lasted, and ``limit`` seconds."""
    complaints = []
    for each in sent:
        spent = sum(
            max(0.0, min(spell.ended, each.accepted) - max(spell.began, each.began))
            for spell in spells
            if each.event.user in spell.users
        )
        if each.accepted - each.began - spent > limit:
            complaints.append(
                f"{each.event.id} of {each.event.user} took {each.accepted - each.began:.2f} s, and"
                f" {spent:.2f} s of that there was trouble"
            )
    return complaints


def check_spells(answers: Iterable[Answer], spells: Sequence[Spell]) -> list[str]:
    """See that nothing was accepted while Redis refused every write."""
    return [
        f"{answer.accepted} events were accepted {answer.began - spell.began:.2f} s into {spell.what}"
        for answer in answers
        for spell in spells
        if spell.refuses
        and answer.accepted
        and answer.users & spell.users
        and spell.began < answer.began
        and answer.ended < spell.ended
    ]


def check_ready(looks: Iterable[Look], spells: Sequence[Spell], within: float, after: float) -> list[str]:
    """See that nodes said that they are not ready while writes were refused, and only then.

    Args:
        looks: What they said.
        spells: Those that refuse writes are looked at.
        within: Seconds from the beginning of a spell in which a node must notice.
        after: Seconds from its end in which it must be ready again.
    """
    spells = sorted((spell for spell in spells if spell.refuses), key=lambda spell: spell.began)
    complaints = []
    for look in looks:
        last = next((spell for spell in reversed(spells) if spell.began <= look.at), None)
        if last is not None and look.at <= last.ended:
            if look.ready and look.at > last.began + within:
                complaints.append(f"node {look.node} was ready {look.at - last.began:.2f} s into {last.what}")
        elif not look.ready and (last is None or look.at > last.ended + after):
            since = math.inf if last is None else look.at - last.ended
            what = "any spell" if last is None else last.what
            complaints.append(f"node {look.node} was not ready {since:.2f} s after {what}")
    return complaints
