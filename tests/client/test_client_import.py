"""What an app takes in with the client."""

import json
import subprocess
import sys

PRINT_IMPORTED = "import json, sys, localful_ws.client; print(json.dumps(sorted(sys.modules)))"
NOT_FOR_DEVICES = (
    "trio",
    "trio_websocket",
    "asyncio",
    "starlette",
    "httptools",
    "httpx",
    "click",
    "structlog",
)
OURS = ("localful_ws.client", "localful_ws.protocol")


def test_it_brings_in_neither_the_server_nor_an_event_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT_IMPORTED], capture_output=True, text=True, check=True, timeout=60
    )
    imported: list[str] = json.loads(done.stdout)
    assert "anyio" in imported
    assert not set(NOT_FOR_DEVICES) & set(imported)
    of_ours = {name for name in imported if name.startswith("localful_ws.")}
    assert {name for name in of_ours if not name.startswith(OURS)} == set()
