"""The HTTP clients that people have in Python publish."""

import asyncio
import http.client
import io
import json
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.end_to_end.process import TIMEOUT, DaemonProcess
from tests.interop.publishing import (
    ACCEPTED,
    AUTHORIZATION,
    BODY,
    LARGE,
    TOO_LARGE,
    WRONG,
    accepted,
    in_parts,
    publish_url,
)

pytestmark = pytest.mark.sockets

MANY = 200


class Client(Protocol):
    """A client as a test uses it.

    Attributes:
        connects: How many connections it has opened.
    """

    connects: int

    def post(self, url: str, body: bytes | Iterator[bytes], key: str) -> tuple[int, Any]:
        """Publish; returns the status and what is in the answer."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Requests:
    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def connects(self) -> int:
        adapter = self._session.get_adapter("http://")
        assert isinstance(adapter, HTTPAdapter)
        pools = adapter.poolmanager.pools
        return sum(pools[key].num_connections for key in pools.keys())  # noqa: SIM118 - it can't be iterated

    def post(self, url: str, body: bytes | Iterator[bytes], key: str) -> tuple[int, Any]:
        answer = self._session.post(url, data=body, headers={"Authorization": key}, timeout=TIMEOUT)
        return answer.status_code, answer.json()

    def close(self) -> None:
        self._session.close()


class Httpx:
    def __init__(self) -> None:
        self.connects = 0
        self._client = httpx.Client(trust_env=False, timeout=TIMEOUT)

    def _trace(self, event: str, _: object) -> None:
        self.connects += event == "connection.connect_tcp.complete"

    def post(self, url: str, body: bytes | Iterator[bytes], key: str) -> tuple[int, Any]:
        answer = self._client.post(
            url, content=body, headers={"Authorization": key}, extensions={"trace": self._trace}
        )
        return answer.status_code, answer.json()

    def close(self) -> None:
        self._client.close()


class Aiohttp:
    def __init__(self) -> None:
        self.connects = 0
        self._runner = asyncio.Runner()
        self._session = self._runner.run(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._connected)
        return aiohttp.ClientSession(trace_configs=[trace], timeout=aiohttp.ClientTimeout(TIMEOUT))

    async def _connected(self, *_: object) -> None:
        self.connects += 1

    async def _post(self, url: str, body: bytes | Iterator[bytes], key: str) -> tuple[int, Any]:
        async def chunks(parts: Iterator[bytes]) -> Any:
            for part in parts:
                yield part

        data = io.BytesIO(body) if isinstance(body, bytes) else chunks(body)
        async with self._session.post(url, data=data, headers={"Authorization": key}) as answer:
            return answer.status, await answer.json()

    def post(self, url: str, body: bytes | Iterator[bytes], key: str) -> tuple[int, Any]:
        return self._runner.run(self._post(url, body, key))

    def close(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()


class Standard:
    """``http.client``, which reads nothing before all is sent."""

    def __init__(self) -> None:
        self.connects = 0
        self._connection: http.client.HTTPConnection | None = None

    def post(self, url: str, body: bytes | Iterator[bytes], key: str) -> tuple[int, Any]:
        where = urlsplit(url)
        if self._connection is None:
            self._connection = http.client.HTTPConnection(where.netloc, timeout=TIMEOUT)
        if self._connection.sock is None:
            self.connects += 1
        self._connection.request("POST", where.path, body, {"Authorization": key})
        answer = self._connection.getresponse()
        return answer.status, json.load(answer)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@pytest.fixture(params=[Requests, Httpx, Aiohttp, Standard], ids=lambda kind: kind.__name__.lower())
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    client: Client = request.param()
    yield client
    client.close()


def test_many_over_one_connection(daemon: DaemonProcess, client: Client) -> None:
    before = accepted(daemon)
    for _ in range(MANY):
        assert client.post(publish_url(daemon), BODY, AUTHORIZATION) == (202, ACCEPTED)
    assert client.connects == 1
    assert accepted(daemon) == before + MANY


@pytest.mark.parametrize("way", [bytes, in_parts], ids=["plain", "chunked"])
@pytest.mark.parametrize(
    ("key", "body", "status"),
    [(AUTHORIZATION, LARGE, 202), (WRONG, LARGE, 401), (AUTHORIZATION, TOO_LARGE, 413)],
    ids=["right", "key", "size"],
)
def test_the_answer_to_a_large_body_is_seen(
    daemon: DaemonProcess, client: Client, way: Any, key: str, body: bytes, status: int
) -> None:
    told, _ = client.post(publish_url(daemon), way(body), key)
    assert told == status
    # And the next one is answered, over whichever connection.
    assert client.post(publish_url(daemon), BODY, AUTHORIZATION) == (202, ACCEPTED)
