"""Who was refused when, and whether a spell of trouble explains it. Pure: answers in, complaints out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from attrs import frozen

from .publisher import Answer
from .told import Sent


@frozen
class Spell:
    """A spell of trouble with Redis.

    Attributes:
        what: What it was.
        began: When it may have begun, on Trio's clock.
        ended: When Redis surely served all again.
        users: Whose events it concerns.
        refusing: From when until when Redis surely refused every write, if it did.
    """

    what: str
    began: float
    ended: float
    users: frozenset[str]
    refusing: tuple[float, float] | None = None


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
    """See that no publish failed but of users whom a spell concerned, in it or a short time after.

    What is wrong comes back by user: how often, how, and how long after the last spell of theirs.
    """
    wrong: dict[frozenset[str], list[Answer]] = defaultdict(list)
    for answer in answers:
        explained = any(
            answer.users & spell.users and answer.began < spell.ended + grace and answer.ended > spell.began
            for spell in spells
        )
        if answer.status != 202 and not explained:
            wrong[answer.users].append(answer)
    complaints = []
    for users, some in wrong.items():
        how = ", ".join(f"{count} {status}" for status, count in Counter(a.status for a in some).items())
        ends = [spell.ended for spell in spells if users & spell.users and spell.ended < some[0].began]
        after = f"{some[0].began - max(ends):.1f} s after their last" if ends else "before any of theirs"
        complaints.append(
            f"publishes for {' and '.join(sorted(users))} failed without trouble: {how}; {after}"
        )
    return complaints


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
        f"{answer.accepted} events were accepted {answer.began - spell.refusing[0]:.2f} s into {spell.what}"
        for answer in answers
        for spell in spells
        if spell.refusing is not None
        and answer.accepted
        and answer.users & spell.users
        and spell.refusing[0] < answer.began
        and answer.ended < spell.refusing[1]
    ]


def check_ready(looks: Iterable[Look], spells: Sequence[Spell], within: float, after: float) -> list[str]:
    """See that nodes said that they are not ready while writes were refused, and only then.

    Args:
        looks: What they said.
        spells: Those that refuse writes are looked at.
        within: Seconds from the beginning of a spell in which a node must notice.
        after: Seconds from its end in which it must be ready again.
    """
    spells = sorted((spell for spell in spells if spell.refusing), key=lambda spell: spell.began)
    wrong: dict[str, list[float]] = defaultdict(list)
    for look in looks:
        last = next((spell for spell in reversed(spells) if spell.began <= look.at), None)
        if last is not None and last.refusing is not None and look.at <= last.ended:
            if look.ready and last.began + within < look.at < last.refusing[1]:
                wrong[f"node {look.node} was ready, seconds into {last.what}"].append(look.at - last.began)
        elif not look.ready and last is None:
            wrong[f"node {look.node} was not ready before any spell, at"].append(look.at)
        elif not look.ready and last is not None and look.at > last.ended + after:
            wrong[f"node {look.node} was not ready, seconds after {last.what}"].append(look.at - last.ended)
    return [f"{what}: {', '.join(f'{each:.1f}' for each in moments)}" for what, moments in wrong.items()]
