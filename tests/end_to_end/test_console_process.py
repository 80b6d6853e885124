"""The console's API of a daemon as a process, on its real port."""

import json

import httpx
import pytest

from tests.end_to_end.process import TIMEOUT, DaemonProcess

pytestmark = pytest.mark.sockets


def test_a_watch_ends_with_the_daemon() -> None:
    with DaemonProcess() as daemon:
        with daemon.http.stream("GET", "/console/api/watch", params={"user": "ada"}) as watch:
            lines = map(json.loads, watch.iter_lines())
            assert next(lines)["type"] == "watching"
            daemon.publish({"event": "user-update", "user": "ada", "data": [1, 2]})
            assert next(lines)["data"] == [1, 2]
            daemon.signal()
            assert next(lines)["type"] == "end"
            assert list(lines) == []
        assert daemon.wait() == 0


def test_those_who_watch_and_leave_make_room() -> None:
    with DaemonProcess() as daemon:
        for _ in range(40):
            with daemon.http.stream("GET", "/console/api/watch", params={"user": "ada"}) as watch:
                assert watch.status_code == 200
                assert json.loads(next(watch.iter_lines()))["type"] == "watching"


def test_the_console_can_be_switched_off() -> None:
    with DaemonProcess("--console", "off") as daemon:
        for path in ("/console", "/console/console.js", "/console/api/overview"):
            assert daemon.http.get(path).status_code == 404
        assert daemon.http.get("/client.js").status_code == 200


def test_the_key_is_asked_for() -> None:
    with DaemonProcess() as daemon, httpx.Client(base_url=daemon.http.base_url, trust_env=False) as stranger:
        assert stranger.get("/console", timeout=TIMEOUT).status_code == 200
        for what in ("overview", "users", "devices?user=ada", "watch?user=ada"):
            assert stranger.get(f"/console/api/{what}", timeout=TIMEOUT).status_code == 401
