"""Wheel and sdist: built, looked into, and installed where there is no checkout. Needs the network (PyPI)."""

import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from localful_ws import __version__
from localful_ws.demo.site import FILES
from tests.spec_document import ROOT

pytestmark = pytest.mark.package

PATIENCE = 300


def run(*command: str | Path, directory: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end, which must be a success, and say what it printed."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment or clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Our environment without anything that leads to the checkout, or to settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LOCALFUL_WS_", "PYTHON", "VIRTUAL_ENV", "NOTIFY_SOCKET"))
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", directory, ROOT, directory=directory)
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of an environment with the wheel and what it needs, and nothing else."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=True)
    pip = (directory / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, f"{wheel}[redis]", directory=directory)
    return directory / "bin"


def package_files() -> set[str]:
    """Every file of the package in the checkout."""
    files = (path for path in (ROOT / "localful_ws").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def scene_files() -> set[str]:
    """The scenes of the specification, as they lie in the wheel."""
    folder = ROOT / "spec" / "transcripts"
    files = (path for path in folder.rglob("*") if path.is_file())
    return {f"localful_ws/conform/transcripts/{path.relative_to(folder)}" for path in files}


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"localful_ws-{__version__}.dist-info"
    assert {name for name in names if not name.startswith(f"{info}/")} == package_files() | scene_files()
    assert f"{info}/licenses/LICENSE" in names
    # Were they not among the files of the package, the above would not notice.
    assert "localful_ws/py.typed" in names
    assert any(name.endswith(".lua") for name in names)
    assert {"localful_ws/web/client.js", "localful_ws/demo/page/index.html"} <= names


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    info = f"localful_ws-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert wheel.name == f"localful_ws-{__version__}-py3-none-any.whl"
    for line in ("License-Expression: MIT", "Requires-Python: >=3.11", "Provides-Extra: redis"):
        assert line in metadata.splitlines()
    assert "localful-ws = localful_ws.cli:main" in entry_points


def test_the_sdist_has_what_tests_and_packagers_need(built: Path) -> None:
    with tarfile.open(built / f"localful_ws-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= names
    for name in (
        *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"),
        *(
            "docs/operating.md",
            "docs/tools/site.py",
            "mkdocs.yml",
            "changes/README.md",
            "spec/protocol.md",
            "tests/test_package.py",
            "tests/conftest.py",
        ),
        *("packaging/systemd/localful-ws.service", "packaging/docker/Dockerfile", ".dockerignore"),
        *("packaging/nginx/localful-ws.conf", "packaging/caddy/Caddyfile", "packaging/docker/compose.yaml"),
    ):
        assert name in names
    wrong = ("node_modules/", "__pycache__", ".venv/", ".git/", "secrets/")
    assert not [name for name in names if any(part in name for part in wrong)]


def test_the_program_runs_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    program = installed / "localful-ws"
    assert run(program, "--version", directory=tmp_path).split()[-1] == __version__
    secrets = {
        "LOCALFUL_WS_PUBLISHER_KEY": "a-publisher-key-to-try",
        "LOCALFUL_WS_JWT_SECRET": "x" * 32,
        "LOCALFUL_WS_PORT": "0",
        "LOCALFUL_WS_INTERNAL_PORT": "0",
    }
    said = run(program, "check", directory=tmp_path, environment=clean_environment() | secrets)
    assert "settings: Everything" in said


def test_what_is_installed_is_typed(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from localful_ws.client import ReceivedEvent, open_client\n"
        "def name(event: ReceivedEvent) -> int:\n"
        "    return event.event\n"
    )
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        str(installed / "python"),
        "app.py",
    ]
    done = subprocess.run(
        mypy,
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    # Without types it would have nothing to complain of, or of nothing but missing stubs.
    assert 'Incompatible return value type (got "str", expected "int")' in done.stdout
    assert "Found 1 error" in done.stdout


def test_the_scenes_are_there_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "localful-ws", "conform", "--list", directory=tmp_path)
    assert int(listed.splitlines()[-1].removesuffix(" scenes")) >= 80


def test_the_engine_finds_its_scripts(installed: Path, tmp_path: Path) -> None:
    code = "import localful_ws.engine.redis.engine as engine; print(len(engine.REVOKE.text))"
    assert int(run(installed / "python", "-c", code, directory=tmp_path)) > 100


def test_the_demo_runs_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "localful-ws", "demo", "--terminal", directory=tmp_path)
    assert "Every device got what it should" in said


def test_the_demos_page_is_served_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [installed / "localful-ws", "demo", "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        watchdog = threading.Timer(PATIENCE, demo.kill)
        watchdog.start()
        try:
            assert demo.stdout is not None
            said = ""
            for line in demo.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            found = re.search(r"the page +(\S+)", said)
            assert found, said
            with httpx.Client(base_url=found[1], trust_env=False) as http:
                assert '<script type="module" src="/demo.js">' in http.get("/").text
                assert "export function openClient" in http.get("/client.js").text
                for path in FILES:
                    assert http.get(path).status_code == 200
                # Whoever logs in gets a token; it is the whole backend.
                credentials = {"email": "ada@example.org", "password": "ada's password"}
                assert "accessToken" in http.post("/v1/auth/login", json=credentials).json()["tokens"]
            demo.send_signal(signal.SIGTERM)
            assert "The demo has ended." in demo.stdout.read()
            assert demo.wait(PATIENCE) == 0
        finally:
            # Not killed: it would leave its daemon behind.
            demo.terminate()
            try:
                demo.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                demo.kill()
            watchdog.cancel()
