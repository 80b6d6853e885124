"""The table of settings: what is read, what is refused, and who wins."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import fields

from localful_ws.protocol import HandshakeRules, Limits, Rate
from localful_ws.publishing import PublishLimits
from localful_ws.settings import (
    OPTIONS,
    Settings,
    SettingsError,
    connections_allowed,
    devices_allowed,
    load_settings,
    load_values,
    raise_open_file_limit,
    settings_table,
)
from localful_ws.settings.open_files import INTERNAL_CONNECTIONS

KEY = "a-publisher-key-that-nobody-may-see"
SECRET = "a-shared-secret-that-nobody-may-ever-see"
REQUIRED = {"publisher-key": KEY, "jwt-secret": SECRET}
PEM = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"


def load(
    command_line: dict[str, Any] | None = None, environment: dict[str, str] | None = None, allowed: int = 1000
) -> Settings:
    return load_settings(REQUIRED | (command_line or {}), environment or {}, lambda: allowed)


def make(**values: Any) -> Settings:
    return Settings(**({"publisher_key": KEY, "jwt_secret": SECRET.encode()} | values))


def complaint(act: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        act()
    return str(caught.value)


def test_without_more_than_the_keys_the_defaults_hold() -> None:
    settings = load()
    assert settings == make(max_connections=1000)
    assert (settings.host, settings.port, settings.path) == ("127.0.0.1", 42102, "/v1/sync")
    assert (settings.internal_host, settings.internal_port) == ("127.0.0.1", 42103)
    assert settings.jwt_secret == SECRET.encode()


def test_the_protocol_is_told_what_is_set() -> None:
    settings = make(
        auth_timeout=4.0,
        renewal_window=30.0,
        max_vaults=7,
        message_rate=Rate(5, 1.0),
        path="/sync",
        allow_origin=("https://a.example", "https://b.example"),
        max_publish_bytes=2_000_000,
        max_event_bytes=1_000,
        max_batch=10,
    )
    assert settings.limits() == Limits(4.0, 30.0, 7, Rate(5, 1.0))
    assert settings.handshake_rules() == HandshakeRules(
        "/sync", frozenset({"https://a.example", "https://b.example"})
    )
    assert settings.publish_limits() == PublishLimits(
        max_body_bytes=2_000_000, max_event_bytes=1_000, max_events=10
    )


def test_the_defaults_are_those_of_the_parts_they_are_for() -> None:
    settings = make()
    assert settings.limits() == Limits()
    assert settings.handshake_rules() == HandshakeRules()
    assert settings.publish_limits() == PublishLimits()


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "conf.toml"
    file.write_text("port = 1\nmax-vaults = 11\nmax-batch = 111\n")
    settings = load(
        {"config": str(file), "port": "3"},
        {"LOCALFUL_WS_PORT": "2", "LOCALFUL_WS_MAX_VAULTS": "22"},
    )
    assert (settings.port, settings.max_vaults, settings.max_batch, settings.backlog) == (3, 22, 111, 4096)


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "conf.toml"
    file.write_text('path = "/x"')
    assert load(environment={"LOCALFUL_WS_CONFIG": str(file)}).path == "/x"


def test_a_higher_source_decides_for_settings_that_exclude_each_other(tmp_path: Path) -> None:
    file = tmp_path / "conf.toml"
    file.write_text(f'publisher-key = "{"f" * 20}"\njwks-url = "https://api.example/jwks"')
    settings = load_settings(
        {"config": str(file)},
        {"LOCALFUL_WS_PUBLISHER_KEY": KEY, "LOCALFUL_WS_JWT_SECRET": SECRET},
        lambda: 10,
    )
    assert (settings.publisher_key, settings.jwt_secret, settings.jwks_url) == (KEY, SECRET.encode(), None)


def test_an_empty_variable_counts_as_unset() -> None:
    assert load(environment={"LOCALFUL_WS_PORT": "", "LOCALFUL_WS_CONFIG": ""}).port == 42102


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (b"k" * 20, "k" * 20),
        (b"k" * 20 + b"\n", "k" * 20),
        (b"k" * 20 + b"\r\n", "k" * 20),
    ],
)
def test_a_file_is_read_without_its_last_newline(tmp_path: Path, content: bytes, read: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    values = load_values(["publisher-key-file"], {"publisher-key-file": str(file)}, {})
    assert values == {"publisher_key": read}


def test_a_secret_in_a_file_may_be_any_bytes(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\n" * 16 + b"\n")
    values = load_values(["jwt-secret-file"], {"jwt-secret-file": str(file)}, {})
    assert values == {"jwt_secret": b"\xff\n" * 16}


@pytest.mark.parametrize(
    "content", ["redis://:p+w%2F@cache:6379/1\n", "memory", "unix:///run/r\u00e9dis.sock\r\n"]
)
def test_the_engine_may_be_named_in_a_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "engine"
    file.write_text(content, newline="", encoding="utf-8")
    for given in ({"engine-file": str(file)}, {}):
        environment = {} if given else {"LOCALFUL_WS_ENGINE_FILE": str(file)}
        assert load(given, environment).engine == content.rstrip()


def test_the_engine_is_named_once(tmp_path: Path) -> None:
    file = tmp_path / "engine"
    file.write_text("redis://:opensesame@cache")
    conf = tmp_path / "conf.toml"
    conf.write_text(f'engine = "memory"\nengine-file = "{file}"')
    assert complaint(lambda: load({"config": str(conf)})) == (
        f"engine in {conf} and engine-file in {conf} exclude each other; set one of them."
    )
    assert load({"config": str(conf), "engine-file": str(file)}).engine == "redis://:opensesame@cache"


def test_a_public_key_comes_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(PEM + b"\n")
    settings = load_settings({"publisher-key": KEY, "jwt-public-key-file": str(file)}, {}, lambda: 10)
    assert (settings.jwt_public_key, settings.jwt_secret) == (PEM, None)


@pytest.mark.parametrize(
    ("option", "written", "value"),
    [
        ("port", "0", 0),
        ("port", 65535, 65535),
        ("send-buffer-bytes", "8MiB", 8 * 1024 * 1024),
        ("send-buffer-bytes", "100 kB", 100_000),
        ("send-buffer-bytes", "80000", 80_000),
        ("send-buffer-bytes", 80_000, 80_000),
        ("max-message-bytes", "1gib", 1024**3),
        ("auth-timeout", "2.5", 2.5),
        ("auth-timeout", 2, 2.0),
        ("renewal-window", 0, 0.0),
        ("message-rate", "5/2.5", Rate(5, 2.5)),
        ("message-rate", "30 / 10", Rate(30, 10.0)),
        (
            "allow-origin",
            "https://a.example, http://localhost:8080",
            ("https://a.example", "http://localhost:8080"),
        ),
        ("allow-origin", ("https://a.example", "https://a.example", "null"), ("https://a.example", "null")),
        ("allow-origin", ["https://a.example"], ("https://a.example",)),
        ("allow-host", "WS.internal, localful-ws", ("ws.internal", "localful-ws")),
        ("allow-host", ("a_b", "a_b", "*"), ("a_b", "*")),
        ("allow-host", "192.0.2.7", ("192.0.2.7",)),
        ("publish-budget", "1GiB", 1024**3),
        ("log-level", "debug", "debug"),
        ("jwks-url", "http://api:8000/jwks", "http://api:8000/jwks"),
        *(
            ("engine", url, url)
            for url in (
                "memory",
                "redis://127.0.0.1:6379/0",
                "rediss://user:password@cache.example:6380/3",
                "unix:///run/redis.sock",
                "redis+sentinel://user:password@a:26379,b:26379/main",
                "rediss+sentinel://a:26379/main",
                "redis+cluster://a:7000,b:7000",
                "rediss+cluster://user:password@a:7000",
            )
        ),
        ("redis-prefix", "localful:eu-1", "localful:eu-1"),
        ("history-bytes", "1GiB", 1024**3),
        ("history-seconds", "0", 0.0),
    ],
)
def test_values_are_read_as_they_are_written(option: str, written: object, value: object) -> None:
    assert load_values([option], {option: written}, {}) == {option.replace("-", "_"): value}


@pytest.mark.parametrize(
    ("option", "written", "sentence"),
    [
        ("port", "x", "--port must be a whole number from 0 to 65535, not 'x'."),
        ("port", "70000", "--port must be a whole number from 0 to 65535, not '70000'."),
        ("port", -1, "--port must be a whole number from 0 to 65535, not -1."),
        ("port", True, "--port must be a whole number from 0 to 65535, not True."),
        ("port", 1.5, "--port must be a whole number from 0 to 65535, not 1.5."),
        ("backlog", "0", "--backlog must be a whole number of at least 1, not '0'."),
        ("host", "", "--host must be text that is not empty, not ''."),
        ("host", 5, "--host must be text that is not empty, not 5."),
        ("path", "v1/sync", "--path must be a path that begins with /, not 'v1/sync'."),
        ("path", "/v1?x", "--path must be a path that begins with /, not '/v1?x'."),
        ("auth-timeout", "0", "--auth-timeout must be a number of seconds of at least 0.1, not '0'."),
        ("auth-timeout", "inf", "--auth-timeout must be a number of seconds of at least 0.1, not 'inf'."),
        ("auth-timeout", "nan", "--auth-timeout must be a number of seconds of at least 0.1, not 'nan'."),
        ("auth-timeout", [3], "--auth-timeout must be a number of seconds of at least 0.1, not [3]."),
        ("renewal-window", "-1", "--renewal-window must be a number of seconds of at least 0, not '-1'."),
        (
            "send-buffer-bytes",
            "4 m",
            (
                "--send-buffer-bytes must be a number of bytes, such as 65536 or 64KiB, from 1KiB to 1GiB, "
                "not '4 m'."
            ),
        ),
        (
            "message-rate",
            "30",
            "--message-rate must be messages/seconds, such as 30/10 for 30 in 10 s, not '30'.",
        ),
        (
            "message-rate",
            "0/10",
            "--message-rate must be messages/seconds, such as 30/10 for 30 in 10 s, not '0/10'.",
        ),
        (
            "allow-origin",
            "https://a.example/",
            (
                "--allow-origin must be origins such as https://app.example, in lower case, with a scheme "
                "and without a path or final slash, not 'https://a.example/'."
            ),
        ),
        *(
            (
                "allow-host",
                host,
                (
                    "--allow-host must be names such as localful-ws or ws.internal.example, without a port, "
                    f"or *, not '{host}'."
                ),
            )
            for host in ("localful-ws:42103", "http://localful-ws", "*.example", "a b", ".example", "a,,b")
        ),
        ("log-format", "xml", "--log-format must be one of auto, console, json, not 'xml'."),
        (
            "transport",
            "carrier-pigeon",
            "--transport must be one of lean, trio-websocket, not 'carrier-pigeon'.",
        ),
        ("jwt-algorithm", "none", "--jwt-algorithm must be one of HS256, RS256, ES256, EdDSA, not 'none'."),
        ("tls-cert", "/nowhere", "--tls-cert must be the path of a file that is there, not '/nowhere'."),
        ("tls-cert", "/", "--tls-cert must be the path of a file that is there, not '/'."),
        (
            "path",
            "v" * 100,
            f"--path must be a path that begins with /, not '{'v' * 56}….",
        ),
    ],
)
def test_an_impossible_value_is_refused_in_a_sentence(option: str, written: object, sentence: str) -> None:
    assert complaint(lambda: load({option: written})) == sentence


@pytest.mark.parametrize(
    ("option", "written"),
    [
        ("publisher-key", "too-short-secre"),
        ("publisher-key", "has a space in the middle"),
        ("publisher-key", "schlüssel-mit-umlauten"),
        ("publisher-key", 1234567890123456),
        ("jwt-secret", "thirty-one-bytes-thirty-one-byt"),
        ("jwt-secret", 12345678901234567890123456789012),
        ("jwks-url", "ftp://user:swordfish@api.example/jwks"),
        ("jwks-url", "https://user:swordfish@api.example:port/jwks"),
        ("jwks-url", "https://user:swordfish@[api.example/jwks"),
        ("engine", "postgres://user:swordfish@db"),
        ("engine", "valkey://user:swordfish@cache:6379"),
        ("engine", "redis://user:swordfish@"),
        ("engine", "redis://user:swordfish@cache :6379"),
        ("engine", "unix://user:swordfish@"),
    ],
)
def test_a_secret_is_refused_without_being_shown(option: str, written: object) -> None:
    given = {key: value for key, value in REQUIRED.items() if option != "jwks-url" or key != "jwt-secret"}
    said = complaint(lambda: load_settings(given | {option: written}, {}, lambda: 10))
    assert option in said
    assert str(written) not in said
    assert "swordfish" not in said


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"redis://:opensesame@cache\n\n", b"redis://:opensesame\xff@cache", b"# opensesame"],
)
def test_a_file_that_names_no_engine_is_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "engine"
    file.write_bytes(content)
    said = complaint(lambda: load({"engine-file": str(file)}))
    assert said.startswith("What is in the file of --engine-file must be memory, or a URL such as redis://")
    assert "sesame" not in said


def test_a_secret_in_place_of_the_path_of_its_file_is_not_shown() -> None:
    for secret in ("redis://:opensesame@cache", "opensesame" * 1000):
        said = complaint(lambda secret=secret: load({"engine-file": secret}))  # type: ignore[misc]
        assert said.startswith("--engine-file ")
        assert "sesame" not in said


def test_a_path_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        complaint(lambda: load({"tls-cert": "x" * 1000})) == "--tls-cert can't be used: File name too long."
    )

    def refuse(_: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert complaint(lambda: load({"engine-file": "/root/engine"})) == (
        "--engine-file can't be used: Permission denied."
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://:opensesame@127.0.0.1:6379/abc", "the database must be a number"),
        ("redis://:opensesame@127.0.0.1:99999", "it needs a host, or host:port;"),
        (
            "redis://:opensesame@a,b",
            "of several hosts, say whether they are redis+sentinel:// or redis+cluster://",
        ),
        ("redis://:open/sesame@127.0.0.1", "a / in its user or password must be written %2F"),
        ("redis://:opensesame@127.0.0.1?timeout=5", "it has an option that is not known;"),
        ("redis+sentinel://:opensesame@a,b", "after the sentinels comes the name of the service"),
        ("redis+cluster://:opensesame@a/3", "a cluster has no databases to choose from"),
        ("rediss://:opensesame@a?ssl_cert_reqs=opensesame", "ssl_cert_reqs must be one of required, none"),
    ],
)
def test_what_is_wrong_with_the_url_of_redis_is_said_at_the_start(
    url: str, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "engine"
    file.write_text(url)
    for act, place in (
        (lambda: load({"engine-file": str(file)}), "What is in the file of --engine-file"),
        (lambda: load({"engine": url}), "--engine"),
        (lambda: load(environment={"LOCALFUL_WS_ENGINE": url}), "LOCALFUL_WS_ENGINE"),
        (lambda: make(engine=url), "engine"),
    ):
        said = complaint(act)
        assert said.startswith(f"{place} can't be used: {reason}")
        assert "open" not in said
        assert "sesame" not in said


def test_the_url_of_redis_is_judged_without_its_client() -> None:
    script = (
        "import sys\n"
        "sys.modules['hiredis'] = None\n"
        "from localful_ws.settings import SettingsError, load_values\n"
        "assert load_values(['engine'], {'engine': 'redis://cache/1'}, {}) == {'engine': 'redis://cache/1'}\n"
        "try:\n"
        "    load_values(['engine'], {'engine': 'redis://cache/x'}, {})\n"
        "except SettingsError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert done.stdout == "--engine can't be used: the database must be a number.\n"


def test_no_secret_is_in_the_representation() -> None:
    shown = repr(load())
    assert KEY not in shown
    assert SECRET not in shown
    assert "password" not in repr(make(jwt_secret=None, jwks_url="https://user:password@api.example/"))
    assert "password" not in repr(make(engine="redis://user:password@cache:6379"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"send_buffer_bytes": 69631},
            "send-buffer-bytes is 69631 and must be at least 69632, 4KiB more than max-event-bytes",
        ),
        ({"max_event_bytes": 2**26}, "send-buffer-bytes is 4194304 and must be at least 67112960"),
        (
            {"publish_budget": 32 * 1024 * 1024 - 1},
            "publish-budget is 33554431 and must be at least 33554432",
        ),
        ({"max_publish_bytes": 69631}, "max-publish-bytes is 69631 and must be at least 69632"),
        ({"tls_cert": Path(__file__)}, "tls-cert is set and tls-key is not; set both for TLS, or neither."),
        ({"tls_key": Path(__file__)}, "tls-key is set and tls-cert is not; set both for TLS, or neither."),
        ({"internal_port": 42102}, "port and internal-port are both 42102; each listener needs its own."),
        ({"engine": "valkeys://cache"}, "engine must be memory, or a URL such as redis://127.0.0.1:6379/0,"),
        ({"engine": "redis:"}, "engine must be memory, or a URL such as"),
        ({"engine": "kafka"}, "engine must be memory, or a URL such as"),
        ({"redis_prefix": "local ful"}, "redis-prefix must be 1 to 64 letters, digits, and : . _ -,"),
        (
            {"workers": 2},
            (
                "workers is 2 and engine is memory, which is one process's own: its events would not reach "
                "the devices of the others. Set engine to the URL of Redis, or workers to 1."
            ),
        ),
        ({"workers": 0}, "workers must be a whole number from 1 to 1024, not 0."),
        ({"jwt_secret": None}, "Say how access tokens are checked, with one of jwt-secret, jwt-secret-file,"),
        ({"jwks_url": "https://a.example/"}, "Say how access tokens are checked, with one of"),
        ({"jwt_algorithm": "RS256"}, "jwt-algorithm RS256 does not go with the key"),
        (
            {"jwt_secret": None, "jwks_url": "https://a.example/", "jwt_algorithm": "HS256"},
            "jwt-algorithm HS256 does not go with the key",
        ),
        ({"port": 70000}, "port must be a whole number from 0 to 65535, not 70000."),
        ({"publisher_key": "short"}, "publisher-key must be at least 16 printable ASCII characters"),
        ({"message_rate": Rate(1, 0.0)}, "message-rate must be messages/seconds"),
    ],
)
def test_settings_that_cannot_be_are_never_made(values: dict[str, Any], sentence: str) -> None:
    assert sentence in complaint(lambda: make(**values))


def test_several_workers_with_redis() -> None:
    assert make(workers=3, engine="redis://cache").workers == 3


def test_listeners_may_share_a_free_port_or_have_different_addresses() -> None:
    assert make(port=0, internal_port=0).port == 0
    assert make(host="10.0.0.1", port=1, internal_port=1).port == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"jwt-secret": SECRET},
            "publisher-key is missing: name a file that holds it with --publisher-key-file",
        ),
        ({"publisher-key": KEY}, "Say how access tokens are checked"),
        (
            REQUIRED | {"jwks-url": "https://a/"},
            "--jwt-secret and --jwks-url exclude each other; set one of them.",
        ),
        (
            REQUIRED | {"publisher-key-file": "/k"},
            "--publisher-key and --publisher-key-file exclude each other; set one of them.",
        ),
    ],
)
def test_missing_and_excess_keys_are_refused(given: dict[str, str], sentence: str) -> None:
    assert sentence in complaint(lambda: load_settings(given, {}, lambda: 10))


def test_a_variable_is_called_by_its_name() -> None:
    assert complaint(lambda: load(environment={"LOCALFUL_WS_PORT": "tcp://10.0.0.1:1"})) == (
        "LOCALFUL_WS_PORT must be a whole number from 0 to 65535, not 'tcp://10.0.0.1:1'."
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('port = "x"', "port in {file} must be a whole number from 0 to 65535, not 'x'."),
        (
            "max-conections = 5",
            "{file} has a key that is no setting, max-conections; did you mean max-connections?",
        ),
        ("max_vaults = 5", "{file} has a key that is no setting, max_vaults; did you mean max-vaults?"),
        ("[serve]\nport = 5", "{file} has a key that is no setting, serve; "),
        (
            "zzzzzz = 5",
            "{file} has a key that is no setting, zzzzzz; `localful-ws serve --help` lists the settings.",
        ),
        ("port = ", "The configuration file {file} is not TOML: Invalid value"),
        ("\udcff", "The configuration file {file} is not TOML: not text in UTF-8."),
        ("x=" + "[" * 5000, "The configuration file {file} is not TOML: "),
        (f'publisher-key = "short{SECRET}', "The configuration file {file} is not TOML: "),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "conf.toml"
    file.write_bytes(content.encode(errors="surrogateescape"))
    said = complaint(lambda: load({"config": str(file)}))
    assert said.startswith(sentence.format(file=file))
    assert SECRET not in said


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "conf.toml"
    assert complaint(lambda: load({"config": str(missing)})) == (
        f"The configuration file {missing} can't be read: No such file or directory."
    )
    large = tmp_path / "large"
    large.write_bytes(b"k" * (1024 * 1024 + 1))
    assert complaint(lambda: load_values(["publisher-key-file"], {"publisher-key-file": str(large)}, {})) == (
        "--publisher-key-file is larger than 1 MiB."
    )
    short = tmp_path / "short"
    short.write_text("tooshort\n")
    said = complaint(lambda: load_values(["publisher-key-file"], {"publisher-key-file": str(short)}, {}))
    assert said.startswith("What is in the file of --publisher-key-file must be at least 16 printable ASCII")
    assert "tooshort" not in said


def test_other_settings_may_be_wrong_for_a_command_that_needs_few(tmp_path: Path) -> None:
    file = tmp_path / "conf.toml"
    file.write_text("port = 99999\nmax-batch = 5")
    assert load_values(["max-batch"], {"config": str(file)}, {}) == {"max_batch": 5}


def test_as_many_connections_as_files_may_be_open() -> None:
    assert load(allowed=321).max_connections == 321
    assert load({"max-connections": "320"}, allowed=321).max_connections == 320
    assert complaint(lambda: load({"max-connections": "322"}, allowed=321)) == (
        "max-connections is 322, and the limit of open files allows 321; raise that (ulimit -n, LimitNOFILE "
        "in a systemd unit) or lower max-connections."
    )


def test_connections_to_the_internal_port_are_files_too() -> None:
    """As many as are in the reserve cost nothing; more are taken from devices."""
    for internal, devices in [("1", 321), ("128", 321), ("129", 320), ("448", 1)]:
        assert load({"max-internal-connections": internal}, allowed=321).max_connections == devices
    assert complaint(
        lambda: load({"max-internal-connections": "228", "max-connections": "222"}, allowed=321)
    ).startswith("max-connections is 222, and the limit of open files allows 221;")
    assert complaint(lambda: load({"max-internal-connections": "449"}, allowed=321)) == (
        "max-internal-connections is 449, and the limit of open files leaves none for devices; raise that "
        "(ulimit -n, LimitNOFILE in a systemd unit) or lower max-internal-connections."
    )
    assert devices_allowed(1_000_000, INTERNAL_CONNECTIONS) == 1_000_000


@pytest.mark.parametrize(
    ("open_files", "allowed"),
    [(20_000, 19_744), (1024, 768), (300, 150), (2**30, 1_000_000), (-1, 1_000_000)],
)
def test_files_are_kept_in_reserve(open_files: int, allowed: int) -> None:
    assert connections_allowed(open_files) == allowed


def test_the_limit_of_open_files_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: set_to.append(limits))
    assert raise_open_file_limit() == 4096 - 256
    assert set_to == [(4096, 4096)]


def test_a_limit_that_cannot_be_raised_is_lived_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int, limits: tuple[int, int]) -> None:
        raise ValueError(limits)

    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, -1))
    monkeypatch.setattr("resource.setrlimit", refuse)
    assert raise_open_file_limit() == 768


def test_every_setting_is_an_option_and_in_the_table() -> None:
    assert {option.field for option in OPTIONS.values()} == {attribute.name for attribute in fields(Settings)}
    table = settings_table()
    assert all(f"`{name}`" in table for name in OPTIONS)
    lines = table.splitlines()
    assert len(lines) == 2 + len(fields(Settings))
    assert "| `auth-timeout` | 3 s | a device has this long to authenticate |" in lines
    assert "| `send-buffer-bytes` | 4MiB | their size, at least `max-event-bytes` and 4KiB more |" in lines
    assert "| `publisher-key`, `publisher-key-file` | required | key that publishers show |" in lines


@pytest.mark.parametrize("option", [option for option in OPTIONS.values() if not option.from_file])
def test_every_default_is_possible(option: Any) -> None:
    default = next(attribute.default for attribute in fields(Settings) if attribute.name == option.field)
    if option.default == "required" or default is None:
        return
    assert option.read(default, option.name) == default
    written = option.kind.show(default)
    assert not written or option.read(written, option.name) == default
