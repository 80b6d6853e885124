"""Whether the end of a connection, and an answer to who resumes, can be explained."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from localful_ws.engine import replay_limits
from localful_ws.protocol import EventName
from localful_ws.settings import Settings

from .truth import Fact, read_place

if TYPE_CHECKING:
    from .talk import Asked, Talk

_ROUNDING = 1e-6
# What the engines reckon an event takes beside its data differs: this near to the limit, either may be right.
_NEAR = 2048
_CALM_BEFORE = 30.0


def judge_close(talk: "Talk", code: int, written: float) -> str | None:  # noqa: C901 - one question for each code
    """Say what is wrong with a close code; None if it can be explained."""
    world, done = talk.device.world, talk.done
    explained = True
    match code:
        case 1000:
            explained = "close" in done
        case 1001:
            explained = talk.node.draining
        case 1002:
            explained = "unmasked" in done
        case 1009:
            explained = "too-big" in done
        case 1013:
            explained = world.plan.engine == "redis" or "send_budget" in world.plan.settings
            explained = explained or world.jumped_since(talk.began)  # verifying took too long
        case 4400:
            explained = bool(done & {"garbage", "binary", "many-vaults"})
        case 4401:
            explained = talk.first_is_bad or _is_bad_now(talk, written)
        case 4403:
            explained = "foreign" in done or world.checks.may_be_forbidden(talk)
        case 4408:
            return _judge_timeout(talk, written)
        case 4410:
            token = talk.token
            if token is None or talk.node.unix(written) < token.expires_at - _ROUNDING:
                return f"closed with 4410, and the token was {token}"
        case 4412:
            explained = (
                talk.slow or world.plan.network.window < 65536 or "send_buffer_events" in world.plan.settings
            )
            bounded = not {"send_buffer_bytes", "send_budget"}.isdisjoint(world.plan.settings)
            explained = explained or bounded or world.plan.network.delay[1] > 0
        case 4413:
            explained = world.plan.engine == "redis"
        case 4429:
            limited = "max_connections_per_user" in world.plan.settings or world.plan.devices > 40
            explained = limited or "flood" in done or "message_rate" in world.plan.settings
        case _:
            explained = False
    return None if explained else f"closed with {code}, after {sorted(done)} ({talk.last_error})"


def _judge_timeout(talk: "Talk", written: float) -> str | None:
    """A connection that has not authenticated is closed at 3.0 s of its own time."""
    world = talk.device.world
    if talk.authenticated:
        return "closed with 4408 after it had authenticated"
    if world.jumped_since(talk.began):
        return None
    assert talk.link.opened is not None
    after = written - talk.link.opened
    if abs(after - 3.0) > _ROUNDING:
        return f"closed with 4408 after {after:.6f} s"
    if talk.auth_arrives is not None and talk.auth_arrives < talk.link.opened + 3.0 - _ROUNDING:
        return f"closed with 4408, and authenticate arrived at {talk.auth_arrives - talk.link.opened:.6f} s"
    return None


def _is_bad_now(talk: "Talk", written: float) -> bool:
    """Whether the token that was asked about has expired, or begins in the node's future."""
    tokens = [asked.token for asked in talk.asked if asked.token is not None]
    tokens += [talk.asking] if talk.asking is not None else []
    now = talk.node.unix(written)
    return any(
        not token.good or token.expires_at <= now + 1 or token.issued_at > now + 10 - 1 for token in tokens
    )


def judge_silent_end(talk: "Talk", *, reset: bool) -> str | None:
    """Say what is wrong with an end without a close; None if it can be explained."""
    excuses = {"half-close", "reset", "silent", "unmasked", "dark", "unfinished", "close", "too-big"}
    if talk.done & excuses or talk.slow or talk.node.killed or talk.node.draining:
        return None
    world = talk.device.world
    if not talk.authenticated and "max_connections" in world.plan.settings:
        return None  # of those that are too many, only so many are told, and others give way
    if talk.beginning == "unfinished" or world.jumped_since(talk.began) or talk.link.reset_by_kernel:
        return None
    # A ping or its answer that takes longer than a device has, by itself or behind what waits.
    if not world.good_network:
        return None
    if world.plan.network.delay[1] * 2 >= min(
        talk.node.settings.ping_timeout, talk.node.settings.close_timeout
    ):
        return None
    return f"ended without a close frame ({'reset' if reset else 'end of stream'}), after {sorted(talk.done)}"


def judge_refusal(talk: "Talk", status: int, body: bytes) -> None:
    """Complain about an HTTP refusal that can't be explained."""
    world = talk.device.world
    world.refusals[status] += 1
    try:
        identifier = json.loads(body)["identifier"]
    except ValueError:
        identifier = "and the rest is lost"
    world.log(talk.device.name, f"refused {status} {identifier}")
    explained = False
    match status:
        case 401:
            explained = talk.first_is_bad or _is_bad_now(talk, talk.link.opened or 0.0)
        case 403:
            explained = world.checks.may_be_forbidden(talk)
        case 429:
            explained = "max_connections_per_user" in world.plan.settings or world.plan.devices > 40
        case 503:
            explained = (
                talk.node.draining or "max_connections" in world.plan.settings or world.plan.engine == "redis"
            )
            explained = explained or world.jumped_since(talk.began)
    if not explained:
        talk.device.complain(f"refused with {status} {identifier}")


def resumes(talk: "Talk", asked: "Asked", cursor: str, written: float) -> bool | None:
    """Whether a device that was told ``cursor`` must be able to resume; None if it can't be known."""
    world, node, user = talk.device.world, talk.node, talk.device.user
    try:
        epoch, place = read_place(asked.since or "")
    except ValueError:
        return False
    now_epoch, now_place = read_place(cursor)
    line, settings = world.truth.line(user, epoch), node.settings
    missed = line.facts[line.passed(place) : line.passed(now_place)]
    missed = [fact for fact in missed if fact.place not in line.gone]
    deleted = any(fact.name is EventName.USER_DELETE for fact in missed)
    if epoch != now_epoch or place > now_place or deleted:
        return False
    if place in line.gone:
        return False if line.gone[place] < asked.at else None
    if not missed:
        return True if world.plan.engine == "memory" and settings.history_bytes > 1_000_000 else None
    if world.plan.engine == "redis" and missed[-1].at > asked.at:
        return None  # what comes while a node begins to follow the user need not be remembered
    limits = replay_limits(settings)
    if len(missed) > min(settings.history_events, limits.max_events) or not settings.history_seconds:
        return False
    if world.stepped:
        return None  # the node's clock may have gone on by more than Trio's
    if world.plan.engine == "memory":
        return _resumes_from_memory(settings, missed, written)
    size = sum(fact.size + 1024 for fact in missed)
    old = written - missed[0].at > settings.history_seconds - 2
    disturbed = written - world.redis_disturbed < _CALM_BEFORE
    return None if old or disturbed or size + _NEAR > limits.max_bytes else True


def _resumes_from_memory(settings: Settings, missed: Sequence[Fact], written: float) -> bool | None:
    age = written - missed[0].at
    if age >= settings.history_seconds + _ROUNDING:
        return False
    if settings.history_bytes < 1_000_000 or age > settings.history_seconds - _ROUNDING:
        return None
    return sum(fact.size for fact in missed) <= replay_limits(settings).max_bytes
