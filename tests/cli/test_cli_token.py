"""``localful-ws token``."""

import time

import pytest
from click.testing import CliRunner, Result

from localful_ws.cli import main
from localful_ws.protocol import Session
from localful_ws.tokens import StaticKeyVerifier, TokenRules

SECRET = "a-shared-secret-that-nobody-may-ever-see"


def run(*arguments: str, **environment: str) -> Result:
    variables = {f"LOCALFUL_WS_{name.upper()}": value for name, value in environment.items()}
    return CliRunner().invoke(main, ["token", *arguments], env=variables)


async def session_of(result: Result, rules: TokenRules) -> Session:
    assert (result.exit_code, result.stderr) == (0, "")
    return await StaticKeyVerifier(SECRET.encode(), "HS256", rules, time.time).verify(result.stdout.strip())


async def test_a_token_is_for_its_user_and_group() -> None:
    before = int(time.time())
    session = await session_of(
        run("--user", "ada", "--group", "phone", "--ttl", "600", jwt_secret=SECRET), TokenRules()
    )
    assert (session.user, session.group) == ("ada", "phone")
    assert before + 600 <= session.expires_at <= time.time() + 600
    assert session.issued_at == session.expires_at - 600


async def test_without_a_word_it_lasts_an_hour_and_says_what_the_daemon_asks_for() -> None:
    session = await session_of(
        run(
            "--user",
            "ada",
            "--group",
            "phone",
            jwt_secret=SECRET,
            jwt_issuer="https://api.example",
            jwt_audience="devices",
            group_claim="sid",
            port="a wrong setting of no concern",
        ),
        TokenRules(issuer="https://api.example", audience="devices", group_claim="sid"),
    )
    assert session.issued_at == session.expires_at - 3600


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--group", "g"], {"jwt_secret": SECRET}, "Missing option '--user'"),
        (["--user", "u"], {"jwt_secret": SECRET}, "Missing option '--group'"),
        (["--user", "u", "--group", "g"], {}, "jwt-secret is missing: set jwt-secret or jwt-secret-file"),
        (
            ["--user", "u", "--group", "g"],
            {"jwks_url": "https://a.example/"},
            "Tokens for a public key or JWKS only their issuer can make.",
        ),
        (
            ["--user", "u", "--group", "g"],
            {"jwt_secret": "tiny"},
            "LOCALFUL_WS_JWT_SECRET must be at least 32",
        ),
        (["--user", "", "--group", "g"], {"jwt_secret": SECRET}, "The user must be a string of 1 to 128"),
        (
            ["--user", "u", "--group", "g" * 129],
            {"jwt_secret": SECRET},
            "The group must be a string of 1 to 128",
        ),
        (["--user", "u", "--group", "g", "--ttl", "0"], {"jwt_secret": SECRET}, "'--ttl'"),
        (
            ["--user", "u", "--group", "g"],
            {"jwt_secret": "-----BEGIN PUBLIC KEY-----\\nAAAAAAAAAAAAAAAAAAAA\\n-----END PUBLIC KEY-----"},
            "The secret is a public key",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    result = run(*arguments, **environment)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "tiny" not in result.stderr
    assert SECRET not in result.stderr
