"""What is in packaging/: the same as the documentation prints, and safe as far as can be read off it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from localful_ws.settings import OPTIONS, environment_variable
from tests.programs import find_program
from tests.spec_document import ROOT, blocks

PACKAGING = ROOT / "packaging"
DEPLOYING = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
UNIT = PACKAGING / "systemd" / "localful-ws.service"
DOCKER = PACKAGING / "docker"
VARIABLES = {environment_variable(name) for name in OPTIONS}


def text_of(*parts: str) -> str:
    return PACKAGING.joinpath(*parts).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("language", "file"), [("nginx", "nginx/localful-ws.conf"), ("caddyfile", "caddy/Caddyfile")]
)
def test_proxies_are_set_up_as_printed_and_keep_the_internal_port_in(language: str, file: str) -> None:
    (printed,) = [block.text for block in blocks(DEPLOYING) if block.language == language]
    text = text_of(file)
    assert text == printed
    assert f"(../packaging/{file})" in DEPLOYING
    # One path, to one port.
    assert re.findall(r"127\.0\.0\.1:(\d+)", text) == ["42102"]
    assert len(re.findall(r"/v1/sync", text)) == 1


def test_nginx_passes_the_upgrade_on() -> None:
    text = text_of("nginx", "localful-ws.conf")
    for line in (
        "location = /v1/sync {",
        "proxy_pass http://127.0.0.1:42102;",
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        'proxy_set_header Connection "upgrade";',
    ):
        assert f"\n{' ' * (4 if line.endswith('{') else 8)}{line}\n" in text
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(seconds) > float(OPTIONS["ping-interval"].default.removesuffix(" s"))


def unit() -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def test_the_unit_starts_the_daemon_with_settings_that_there_are() -> None:
    (command,) = unit()["ExecStart"]
    program, word, *arguments = shlex.split(command)
    assert (program.endswith("/localful-ws"), word) == (True, "serve")
    assert {name.removeprefix("--") for name in arguments[::2]} <= {"config", *OPTIONS}
    credentials = {value.partition(":")[0] for value in unit()["LoadCredential"]}
    assert {Path(value).name for value in arguments if "CREDENTIALS" in value} == credentials
    assert set(re.findall(r"\bLOCALFUL_WS_[A-Z_]+\b", UNIT.read_text(encoding="utf-8"))) <= VARIABLES


def test_no_secret_gets_into_a_core_dump() -> None:
    assert unit()["LimitCORE"] == ["0"]
    assert "\n      core: 0\n" in text_of("docker", "compose.yaml")


def test_the_unit_waits_for_the_daemon_and_lets_it_end() -> None:
    assert unit()["Type"] == ["notify"]
    assert unit()["RestartPreventExitStatus"] == ["2"]
    seconds = [
        float(OPTIONS[name].default.removesuffix(" s")) for name in ("drain-seconds", "publish-timeout")
    ]
    assert float(unit()["TimeoutStopSec"][0]) > sum(seconds) + 5


@pytest.mark.parametrize("mark", ["#", ""], ids=["as it is", "with engine-file"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, mark: str) -> None:
    program = find_program("systemd-analyze")
    here = tmp_path / UNIT.name
    text = re.sub(r"^#(?=\w+=)", mark, UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert ("\nEnvironment=" in text) == (not mark)
    here.write_text(text.replace("/opt/localful-ws/bin/localful-ws", sys.executable), encoding="utf-8")
    done = subprocess.run([program, "verify", here], capture_output=True, check=False, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    analyze = [program, "security", "--offline=true", "--threshold=20", "--no-pager", str(here)]
    done = subprocess.run(analyze, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each as its name and the rest."""
    text = re.sub(r"^#.*\n", "", text_of("docker", "Dockerfile"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines) if name]


def test_the_image_runs_as_nobody_in_particular_and_listens_for_devices_only() -> None:
    names = [name for name, _ in instructions()]
    last_stage = dict(instructions()[len(names) - names[::-1].index("FROM") :])
    assert last_stage["USER"].partition(":")[0] not in ("", "0", "root")
    assert last_stage["EXPOSE"] == "42102"
    assert last_stage["STOPSIGNAL"] == "SIGTERM"
    assert last_stage["ENTRYPOINT"] == '["localful-ws"]'
    assert last_stage["CMD"] == '["serve"]'
    assert "CMD [" in last_stage["HEALTHCHECK"]
    assert "/healthz" in last_stage["HEALTHCHECK"]


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_containers_get_settings_that_there_are_and_no_secrets(file: str) -> None:
    named = set(re.findall(r"\bLOCALFUL_WS_[A-Z_]+\b", text_of("docker", file)))
    assert named <= VARIABLES
    secret = {environment_variable(name) for name, option in OPTIONS.items() if option.setting.secret}
    as_files = {name for name in named if name.endswith("_FILE")}
    assert named & secret - as_files <= {"LOCALFUL_WS_ENGINE"}
    assert "42103:" not in text_of("docker", file)


def test_the_image_is_built_of_what_is_copied_and_nothing_else() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word.removeprefix("./").rstrip("/")
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    }
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)
