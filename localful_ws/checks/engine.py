"""The engine: whether Redis is there, can be worked with, and is set so that it keeps what it is given."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import define

from localful_ws.checks.finding import Finding, failed, ok, warning
from localful_ws.redis_url import parse_url
from localful_ws.settings import Settings

if TYPE_CHECKING:
    from localful_ws.engine.redis.clients import RedisClient

_ACL_ADVICE: Final = "Give the user what docs/operating.md lists (Permissions), for keys of redis-prefix."
_MIB: Final = 1024 * 1024
# Redis's own: 32mb 8mb 60.
_PUBSUB_HARD, _PUBSUB_SOFT = 32 * _MIB, 8 * _MIB
_PROBE_MS: Final = "10000"

# KEY stands for the key, which Redis has to know for a Cluster.
_TRY: Final = """
for i, word in ipairs(ARGV) do if word == 'KEY' then ARGV[i] = KEYS[1] end end
return redis.call(unpack(ARGV))
"""
_IN_SCRIPTS: Final = (
    ("stream", "XADD KEY * e 1"),
    ("stream", "XRANGE KEY - + COUNT 1"),
    ("stream", "XTRIM KEY MAXLEN 10"),
    ("stream", "XINFO STREAM KEY"),
    ("stream", f"PEXPIRE KEY {_PROBE_MS}"),
    ("head", "HSET KEY epoch 1"),
    ("head", "HGET KEY epoch"),
    ("head", "HMGET KEY epoch last"),
    ("head", "HDEL KEY epoch"),
    ("id", f"SET KEY 1 NX PX {_PROBE_MS}"),
    ("id", "GET KEY"),
    ("id", "EXISTS KEY"),
    ("lapses", "ZADD KEY 1 a"),
    ("lapses", "ZCARD KEY"),
    ("lapses", "ZRANGE KEY 0 -1"),
    ("lapses", "ZREM KEY a"),
    ("head", "TIME"),
    ("head", "PUBSUB NUMSUB KEY"),
    *((what, "DEL KEY") for what in ("stream", "head", "id", "lapses")),
)
_IN_SCRIPTS_OF_INTAKE: Final = (
    ("intake", "XGROUP CREATE KEY localful 0 MKSTREAM"),
    ("intake", "XREADGROUP GROUP localful check COUNT 1 STREAMS KEY >"),
    ("intake", "XAUTOCLAIM KEY localful check 0 0 COUNT 1"),
    ("intake", "XACK KEY localful 1-1"),
    ("intake", "XDEL KEY 1-1"),
    ("intake", "DEL KEY"),
)


async def check_engine(settings: Settings, timeout: float) -> AsyncIterator[Finding]:  # noqa: ASYNC109
    """Look at the engine. In Redis it writes keys of its own, below the prefix, and deletes them.

    Args:
        settings: The daemon's settings.
        timeout: Seconds that Redis may take to connect or to answer a command; all of it takes at most some
            ten times that.
    """
    if settings.engine == "memory":
        yield ok("engine", "Events stay in the memory of one process, and end with it.")
        return
    try:
        from localful_ws.engine.redis.clients import (  # noqa: PLC0415 - the daemon may be without it
            REDIS_ERRORS,
            open_client,
        )
    except ModuleNotFoundError:
        yield failed("engine", "The client of Redis is not installed.", "pip install 'localful-ws[redis]'")
        return
    findings: list[Finding] = []
    try:
        address = str(parse_url(settings.engine))
        async with open_client(settings.engine, timeout) as client:
            look = _Look(settings, client)
            with trio.move_on_after(4 * timeout) as looking:
                findings += await look.greet(address)
                findings += await look.check_settings()
                findings += await look.try_commands()
                findings += await look.try_channel()
            if looking.cancelled_caught:
                findings.append(failed("redis", f"{address} answers too slowly.", "See what keeps it busy."))
    except REDIS_ERRORS as error:
        findings.append(
            failed("redis", _sentence(error), "Start it, or correct engine: address, TLS, user and password.")
        )
    for finding in findings:
        yield finding


@define
class _Look:
    """Looks at a Redis that was reached."""

    settings: Settings
    client: "RedisClient"

    async def greet(self, place: str) -> list[Finding]:
        said = {_text(key): _text(value) for key, value in (await self._ask(b"HELLO", 3)).items()}
        server, version = said.get("server", "redis"), said.get("version", "")
        return [ok("redis", f"{place} answers: {server} {version}, {said.get('mode', 'standalone')}.")]

    async def check_settings(self) -> list[Finding]:
        """Look at Redis's own settings, which a restricted user may not see."""
        from localful_ws.engine.redis.errors import REDIS_ERRORS  # noqa: PLC0415

        names = (b"appendonly", b"appendfsync", b"maxmemory", b"maxmemory-policy", _LIMITS.encode())
        try:
            answer = await self._ask(b"CONFIG", b"GET", *names)
        except REDIS_ERRORS:
            return [
                warning(
                    "redis.conf",
                    "The user may not see Redis's settings, and need not.",
                    "See to it yourself that appendonly is yes and maxmemory-policy noeviction.",
                )
            ]
        return list(judge_config({_text(key): _text(value) for key, value in answer.items()}))

    async def try_commands(self) -> list[Finding]:
        """Do with keys of our own what the server does with its own."""
        from localful_ws.engine.redis.errors import REDIS_ERRORS  # noqa: PLC0415

        tag = f"{self.settings.redis_prefix}:{{check-{secrets.token_hex(8)}}}:"
        script: Any = self.client.register_script(_TRY)
        refused: dict[str, str] = {}
        commands = _IN_SCRIPTS + (_IN_SCRIPTS_OF_INTAKE if self.settings.intake == "on" else ())
        for what, command in commands:
            words = command.split()
            try:
                await script([tag + what], words)
            except REDIS_ERRORS as error:
                refused[words[0]] = _sentence(error)
        directly: dict[str, Callable[[], Awaitable[object]]] = {
            "HSCAN": lambda: self.client.hscan(tag + "head"),
            "XREAD": lambda: self.client.xread({tag + "stream": "0"}, count=1),
        }
        for name, call in directly.items():
            try:
                await call()
            except REDIS_ERRORS as error:
                refused[name] = _sentence(error)
        if not refused:
            return [
                ok("permissions", f"The user may do what is needed with keys of {tag.partition('{')[0]}*")
            ]
        reasons = "; ".join(dict.fromkeys(refused.values()))
        return [failed("permissions", f"Redis refuses {', '.join(refused)}: {reasons}", _ACL_ADVICE)]

    async def try_channel(self) -> list[Finding]:
        """Hear on a channel of our own what is published there."""
        from localful_ws.engine.redis.clients import (  # noqa: PLC0415
            REDIS_ERRORS,
            is_cluster,
            open_pubsub,
        )

        channel = f"{self.settings.redis_prefix}:{{check-{secrets.token_hex(8)}}}:live"
        try:
            async with open_pubsub(self.client, [channel]):
                publish: Any = self.client.spublish if is_cluster(self.client) else self.client.publish
                heard: int = await publish(channel, b"check")
        except REDIS_ERRORS as error:
            advice = "The user needs the channels of the prefix, such as &localful:*, and +@pubsub."
            return [failed("channels", f"Redis refuses to publish or subscribe: {_sentence(error)}", advice)]
        if heard < 1:
            advice = "Let nodes and Redis be connected without a proxy that knows no pub/sub."
            return [failed("channels", "What is published is not heard.", advice)]
        return [ok("channels", "What is published is heard.")]

    async def _ask(self, *command: "str | bytes | int") -> dict[Any, Any]:
        async with self.client.connection_pool.acquire() as connection:
            name, *arguments = command
            answer = await connection.create_request(_bytes(name), *arguments, decode=False)
        return answer if isinstance(answer, dict) else {}


_LIMITS: Final = "client-output-buffer-limit"


def judge_config(config: dict[str, str]) -> Iterator[Finding]:
    """Judge settings of Redis, as ``CONFIG GET`` tells them."""
    fsync = config.get("appendfsync", "")
    if config.get("appendonly") != "yes":
        yield warning(
            "appendonly",
            "Redis keeps nothing over a crash but its last snapshot: history, ids and revocations are lost.",
            "Set appendonly yes.",
        )
    elif fsync == "always":
        yield ok("appendfsync", "always: what was answered with 202 outlives a crash.")
    elif fsync == "everysec":
        yield ok("appendfsync", "everysec: a crash of the machine loses about the last second.")
    else:
        yield warning(
            "appendfsync",
            f"{fsync}: a crash of the machine loses what the kernel had not written, often half a minute.",
            "Set appendfsync everysec, or always.",
        )
    policy, most = config.get("maxmemory-policy", ""), config.get("maxmemory", "0")
    advice = "Set maxmemory-policy noeviction."
    if policy == "noeviction":
        yield ok("maxmemory-policy", "noeviction: a Redis that is full refuses, and loses nothing.")
    elif most == "0":
        yield warning("maxmemory-policy", f"{policy}: harmless only while maxmemory is 0.", advice)
    else:
        yield failed(
            "maxmemory-policy",
            f"{policy}: when Redis is full it throws history, revocations and ids away in silence.",
            advice,
        )
    yield from _judge_limits(config.get(_LIMITS, ""))


def _judge_limits(limits: str) -> Iterator[Finding]:
    words = limits.split()
    if "pubsub" not in words:
        return
    hard, soft, seconds = words[words.index("pubsub") + 1 :][:3]
    enough = all(
        size == 0 or size >= least for size, least in ((int(hard), _PUBSUB_HARD), (int(soft), _PUBSUB_SOFT))
    )
    said = f"pubsub {hard} {soft} {seconds}"
    if enough:
        yield ok(_LIMITS, f"{said}: enough for a node to fall behind for a moment.")
    else:
        yield warning(
            _LIMITS,
            f"{said}: a node that is busy for a moment is cut off, and has to read what it missed.",
            f'Set {_LIMITS} "pubsub 32mb 8mb 60", or more.',
        )


def _sentence(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    # Redis says from which script, which says nothing to anybody.
    return text.partition(" script: ")[0].rstrip(".") + "."


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _bytes(value: "str | bytes | int") -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
