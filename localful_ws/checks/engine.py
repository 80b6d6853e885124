"""The engine: whether Redis is there, can be worked with, and is set so that it keeps what it is given."""

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import trio
from attrs import define

from localful_ws.checks.finding import Finding, failed, ok, warning
from localful_ws.engine.redis.errors import REDIS_ERRORS, RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.keys import hash_slot
from localful_ws.redis_url import Deployment, parse_url
from localful_ws.settings import Settings

if TYPE_CHECKING:
    from localful_ws.engine.redis.link import Link, Server
    from localful_ws.engine.redis.servers import Servers

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
    ("intake", "XINFO GROUPS KEY"),
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
        from localful_ws.engine.redis.link import open_link  # noqa: PLC0415 - the daemon may be without it
        from localful_ws.engine.redis.servers import Servers  # noqa: PLC0415
    except ModuleNotFoundError:
        yield failed("engine", "The client of Redis is not installed.", "pip install 'localful-ws[redis]'")
        return
    address = parse_url(settings.engine)
    tag = f"{settings.redis_prefix}:{{check-{secrets.token_hex(8)}}}:"
    findings: list[Finding] = []
    try:
        servers = Servers.of(address, timeout)
        async with open_link(await _find_server(servers, tag)) as link:
            servers.check(link)
            look = _Look(settings, link, tag, "S" if address.deployment is Deployment.CLUSTER else "")
            with trio.move_on_after(4 * timeout) as looking:
                findings.append(look.greet(str(address)))
                findings += await look.check_settings()
                findings.append(await look.try_commands())
                findings.append(await look.try_channel())
            if looking.cancelled_caught:
                findings.append(failed("redis", f"{address} answers too slowly.", "See what keeps it busy."))
    except (*REDIS_ERRORS, ValueError) as error:
        findings.append(
            failed("redis", _sentence(error), "Start it, or correct engine: address, TLS, user and password.")
        )
    for finding in findings:
        yield finding


async def _find_server(servers: "Servers", key: str) -> "Server":
    """Ask who has a key.

    Raises:
        RedisUnavailableError, RedisRefusedError: If nobody says.
    """
    from localful_ws.engine.redis.link import open_link  # noqa: PLC0415
    from localful_ws.engine.redis.sentinels import SWITCHED  # noqa: PLC0415
    from localful_ws.engine.redis.servers import read_slots  # noqa: PLC0415

    address, slot = servers.address, hash_slot(key.encode())
    if address.deployment is Deployment.SINGLE:
        return servers.first[0]
    trouble: Exception = RedisUnavailableError(f"Nobody at {address} says who is to be written to.")
    for server in servers.first:
        try:
            async with open_link(server) as link:
                if address.deployment is Deployment.SENTINEL:
                    await link.send_order("SUBSCRIBE", [SWITCHED]).wait()
                    said = await link.call("SENTINEL", "MASTER", address.service or "")
                    return servers.at((said[b"ip"].decode(), int(said[b"port"])))
                servers.check_mode(link)
                slots = read_slots(await link.call("CLUSTER", "SLOTS"), (server.host, server.port or 0))
                for first, last, place in slots:
                    if first <= slot <= last:
                        return servers.at(place)
        except REDIS_ERRORS as error:
            trouble = error
    raise trouble


@define
class _Look:
    """Looks at the server that has the keys with a tag."""

    settings: Settings
    link: "Link"
    tag: str
    shard: str

    def greet(self, place: str) -> Finding:
        said = self.link.hello
        server, version = said.get("server", "redis"), said.get("version", "")
        return ok("redis", f"{place} answers: {server} {version}, {said.get('mode', 'standalone')}.")

    async def check_settings(self) -> list[Finding]:
        """Look at Redis's own settings, which a restricted user may not see."""
        names = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", _LIMITS)
        try:
            answer: dict[bytes, bytes] = await self.link.call("CONFIG", "GET", *names)
        except RedisRefusedError:
            return [
                warning(
                    "redis.conf",
                    "The user may not see Redis's settings, and need not.",
                    "See to it yourself that appendonly is yes and maxmemory-policy noeviction.",
                )
            ]
        return list(judge_config({_text(key): _text(value) for key, value in answer.items()}))

    async def try_commands(self) -> Finding:
        """Do with keys of our own what the server does with its own."""
        refused: dict[str, str] = {}

        async def attempt(name: str, command: Sequence[str | int]) -> None:
            try:
                await self.link.call(*command)
            except RedisRefusedError as error:
                refused[name] = _sentence(error)

        for what, command in _IN_SCRIPTS + (_IN_SCRIPTS_OF_INTAKE if self.settings.intake == "on" else ()):
            words = command.split()
            await attempt(words[0], ["EVAL", _TRY, 1, self.tag + what, *words])
        await attempt("HSCAN", ["HSCAN", self.tag + "head", 0])
        await attempt("HEXISTS", ["HEXISTS", self.tag + "head", ""])
        await attempt("XREAD", ["XREAD", "COUNT", 1, "STREAMS", self.tag + "stream", "0"])
        await attempt("INFO", ["INFO", "server"])
        if self.settings.redis_replicas:
            await attempt("WAIT", ["WAIT", 0, 1])
        if not refused:
            return ok(
                "permissions", f"The user may do what is needed with keys of {self.settings.redis_prefix}:*"
            )
        reasons = "; ".join(dict.fromkeys(refused.values()))
        return failed("permissions", f"Redis refuses {', '.join(refused)}: {reasons}", _ACL_ADVICE)

    async def try_channel(self) -> Finding:
        """Hear on a channel of our own what is published there."""
        channel = self.tag + "live"
        try:
            await self.link.send_order(f"{self.shard}SUBSCRIBE", [channel.encode()]).wait()
            heard: int = await self.link.call(f"{self.shard}PUBLISH", channel, "check")
        except RedisRefusedError as error:
            advice = "The user needs the channels of the prefix, such as &localful:*, and +@pubsub."
            return failed("channels", f"Redis refuses to publish or subscribe: {_sentence(error)}", advice)
        if heard < 1:
            advice = "Let nodes and Redis be connected without a proxy that knows no pub/sub."
            return failed("channels", "What is published is not heard.", advice)
        return ok("channels", "What is published is heard.")


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
