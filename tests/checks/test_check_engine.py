"""The engine as `localful-ws check` sees it, with real Redis servers."""

import pytest
import trio

from localful_ws.checks import Finding, Outcome
from localful_ws.checks.engine import check_engine, judge_config
from localful_ws.settings import Settings
from tests.redis_server import RedisServer, redis_sentinel
from tests.world import make_settings

pytestmark = pytest.mark.sockets

PATIENCE = 30
PERMISSIONS = (
    ">PASSWORD ~localful:* &localful:* -@all +@read +@write +@pubsub +@scripting +@connection +time "
    "+cluster|slots -@dangerous +info"
)


async def look(settings: Settings) -> dict[str, Finding]:
    with trio.fail_after(PATIENCE):
        return {finding.check: finding async for finding in check_engine(settings, 3)}


async def test_memory() -> None:
    assert (await look(make_settings()))["engine"].outcome is Outcome.OK


async def test_a_good_redis_is_left_as_it_was(redis_prefix: str) -> None:
    with RedisServer(appendonly=True, appendfsync="always") as redis:
        findings = await look(make_settings(engine=redis.url, redis_prefix=redis_prefix))
        assert {name: finding.outcome for name, finding in findings.items()} == dict.fromkeys(
            (
                *("redis", "appendfsync", "maxmemory-policy", "client-output-buffer-limit"),
                *("permissions", "channels"),
            ),
            Outcome.OK,
        )
        assert redis.cli("KEYS", "*").strip() == ""


async def test_a_cluster(redis_cluster: list[RedisServer], redis_prefix: str) -> None:
    url = f"redis+cluster://127.0.0.1:{redis_cluster[0].port}"
    findings = await look(make_settings(engine=url, redis_prefix=redis_prefix))
    assert [findings[name].outcome for name in ("redis", "permissions", "channels")] == [Outcome.OK] * 3


async def test_sentinel(redis_prefix: str) -> None:
    with RedisServer() as redis, redis_sentinel(redis, "main") as sentinel:
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}"
        findings = await look(make_settings(engine=f"{url}/main", redis_prefix=redis_prefix))
        assert [findings[name].outcome for name in ("redis", "permissions", "channels")] == [Outcome.OK] * 3
        assert "No such master" in (await look(make_settings(engine=f"{url}/other")))["redis"].message
        sentinel.cli("ACL", "SETUSER", "default", "resetchannels")
        assert (await look(make_settings(engine=f"{url}/main")))["redis"].outcome is Outcome.FAILED


async def test_permissions() -> None:
    with RedisServer() as redis:
        url = redis.url.replace("//", "//localful:PASSWORD@")
        settings = make_settings(engine=url, redis_replicas=1)
        redis.cli("ACL", "SETUSER", "localful", "on", *PERMISSIONS.split())
        findings = await look(settings)
        assert findings["redis.conf"].outcome is Outcome.WARNING
        assert (findings["permissions"].outcome, findings["channels"].outcome) == (Outcome.OK, Outcome.OK)

        for less, named in (
            ("-xtrim", "XTRIM"),
            ("-xautoclaim", "XAUTOCLAIM"),
            ("-time", "TIME"),
            ("-info", "INFO"),
            ("-wait", "WAIT"),
        ):
            redis.cli("ACL", "SETUSER", "localful", less)
            finding = (await look(settings))["permissions"]
            assert (finding.outcome, named in finding.message) == (Outcome.FAILED, True)
            assert "PASSWORD" not in str(finding)
            redis.cli("ACL", "SETUSER", "localful", less.replace("-", "+"))

        other = (await look(make_settings(engine=url, redis_prefix="other")))["permissions"]
        assert other.outcome is Outcome.FAILED

        redis.cli("ACL", "SETUSER", "localful", "resetchannels")
        assert (await look(settings))["channels"].outcome is Outcome.FAILED


@pytest.mark.parametrize("what", ["wrong password", "nobody there", "not a cluster"])
async def test_no_engine(what: str, redis_server: RedisServer) -> None:
    urls = {
        "wrong password": redis_server.url.replace("//", "//localful:PASSWORD@"),
        "nobody there": "redis://me:PASSWORD@127.0.0.1:1/0",
        "not a cluster": redis_server.url.replace("redis://", "redis+cluster://").removesuffix("/0"),
    }
    findings = await look(make_settings(engine=urls[what]))
    assert list(findings) == ["redis"]
    assert findings["redis"].outcome is Outcome.FAILED
    assert "PASSWORD" not in str(findings)


async def test_a_redis_that_is_full() -> None:
    with RedisServer("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as redis:
        finding = (await look(make_settings(engine=redis.url)))["permissions"]
        assert (finding.outcome, "maxmemory" in finding.message) == (Outcome.FAILED, True)


GOOD = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
}


@pytest.mark.parametrize(
    ("changes", "check", "outcome"),
    [
        ({}, "appendfsync", Outcome.OK),
        ({"appendfsync": "everysec"}, "appendfsync", Outcome.OK),
        ({"appendfsync": "no"}, "appendfsync", Outcome.WARNING),
        ({"appendonly": "no"}, "appendonly", Outcome.WARNING),
        ({"maxmemory-policy": "allkeys-lru"}, "maxmemory-policy", Outcome.WARNING),
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "100"}, "maxmemory-policy", Outcome.FAILED),
        ({"client-output-buffer-limit": "pubsub 0 0 0"}, "client-output-buffer-limit", Outcome.OK),
        ({"client-output-buffer-limit": "pubsub 1 1 1"}, "client-output-buffer-limit", Outcome.WARNING),
    ],
)
def test_settings_of_redis(changes: dict[str, str], check: str, outcome: Outcome) -> None:
    assert {each.check: each.outcome for each in judge_config(GOOD | changes)}[check] is outcome
