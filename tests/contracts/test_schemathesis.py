"""schemathesis makes requests of spec/openapi.json, right and wrong ones, to a daemon."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.openapi import OPERATIONS
from tests.contracts.parts import OPENAPI
from tests.end_to_end.process import PUBLISHER_KEY, DaemonProcess

CONFIG = Path(__file__).parent / "schemathesis.toml"
TIMEOUT = 120


@pytest.mark.sockets
def test_the_daemon_answers_as_the_document_says(tmp_path: Path) -> None:
    with DaemonProcess() as daemon:
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "--no-color"),
                *("run", OPENAPI, "--url", f"http://127.0.0.1:{daemon.ports['internal']}"),
                *("--header", f"Authorization: Bearer {PUBLISHER_KEY}", "--checks", "all"),
                # Its answer has no end.
                *("--exclude-operation-id", "watch"),
            ],
            cwd=tmp_path,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        # Still there, and at its best.
        assert daemon.http.get("/readyz").status_code == 200
    assert ran.returncode == 0, ran.stdout
    assert f"Tested: {len(OPERATIONS) - 1}" in ran.stdout, ran.stdout
