"""Run Autobahn's fuzzing client, cases 1 to 7 and 10, against each transport, and compare.

The test suite is old and needs a Python 2.7; where there is none, nothing is run and a line says so. Exit
status 1 if a case fails, or if ``lean`` does worse than ``trio-websocket``.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PACKAGE = "autobahntestsuite==0.8.2"
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
GOOD = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
INSTALL_SECONDS = 600
RUN_SECONDS = 900


def find_python2() -> str | None:
    """A Python 2.7 that starts: ``$PYTHON2``, on the path, or one that pyenv keeps."""
    kept = sorted(Path.home().glob(".pyenv/versions/2.7.*/bin/python2.7"))
    for candidate in (os.environ.get("PYTHON2"), "python2.7", *map(str, kept)):
        path = shutil.which(candidate) if candidate else None
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def install(python2: str, where: Path) -> None:
    """Install the test suite below ``where``, once."""
    if (where / "bin" / "wstest").exists():
        return
    command = [python2, "-m", "pip", "install", "--quiet", "--target", str(where), PACKAGE]
    subprocess.run(command, check=True, timeout=INSTALL_SECONDS)
    # pip does not make the namespace package that zope.interface was written for.
    (where / "zope" / "__init__.py").touch()


def run_cases(python2: str, suite: Path, transport: str) -> dict[str, dict[str, str]]:
    """Run the cases against one transport; returns what Autobahn says of each."""
    with tempfile.TemporaryDirectory() as scratch:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.autobahn.echo_server", transport], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            spec = Path(scratch) / "spec.json"
            reports = Path(scratch) / "reports"
            spec.write_text(
                json.dumps(
                    {
                        "outdir": str(reports),
                        "servers": [{"agent": transport, "url": f"ws://127.0.0.1:{port}"}],
                        "cases": CASES,
                        "exclude-cases": [],
                    }
                )
            )
            # wstest's own first line may name a Python that isn't there.
            command = [python2, str(suite / "bin" / "wstest"), "-m", "fuzzingclient", "-s", str(spec)]
            environment = {**os.environ, "PYTHONPATH": str(suite)}
            subprocess.run(
                command, check=True, timeout=RUN_SECONDS, env=environment, stdout=subprocess.DEVNULL
            )
            index: dict[str, dict[str, dict[str, str]]] = json.loads((reports / "index.json").read_text())
            return index[transport]
        finally:
            server.terminate()
            server.wait(10)


def main() -> int:
    """Run, print, and say by the exit status whether all is well."""
    python2 = find_python2()
    if python2 is None:
        print("autobahn: skipped, it needs a Python 2.7 (set PYTHON2 to one)")
        return 0
    suite = Path(".autobahn").absolute()
    install(python2, suite)
    bad: dict[str, list[str]] = {}
    strict: dict[str, int] = {}
    for transport in ("lean", "trio-websocket"):
        cases = run_cases(python2, suite, transport)
        counts = Counter(case["behavior"] for case in cases.values())
        closes = Counter(case["behaviorClose"] for case in cases.values())
        strict[transport] = counts["OK"]
        bad[transport] = sorted(
            name for name, case in cases.items() if not {case["behavior"], case["behaviorClose"]} <= GOOD
        )
        print(f"{transport}: {len(cases)} cases; behaviour {dict(counts)}; close {dict(closes)}")
        for name in bad[transport]:
            print(f"  {name}: {cases[name]['behavior']}, close {cases[name]['behaviorClose']}")
    return 1 if bad["lean"] or strict["lean"] < strict["trio-websocket"] else 0


if __name__ == "__main__":
    sys.exit(main())
