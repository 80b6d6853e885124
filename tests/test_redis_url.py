"""The URL of the setting ``engine``: what it says, and what is wrong with it."""

from pathlib import Path

import pytest
import trustme

from localful_ws.redis_url import Address, Deployment, Host, RedisUrlError, TlsOptions, parse_url

SINGLE, SENTINEL, CLUSTER = Deployment.SINGLE, Deployment.SENTINEL, Deployment.CLUSTER
LOCAL = (Host("localhost", 6379),)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", Address(SINGLE, LOCAL)),
        ("redis://localhost/", Address(SINGLE, LOCAL)),
        ("redis://localhost:6380/3", Address(SINGLE, (Host("localhost", 6380),), db=3)),
        ("redis://localhost?db=3", Address(SINGLE, LOCAL, db=3)),
        ("redis://[::1]:6380", Address(SINGLE, (Host("::1", 6380),))),
        ("redis://[::1]", Address(SINGLE, (Host("::1", 6379),))),
        ("redis://ada:pa%2Fss%40%20@localhost", Address(SINGLE, LOCAL, username="ada", password="pa/ss@ ")),
        ("redis://:p:w@localhost", Address(SINGLE, LOCAL, password="p:w")),
        ("redis://ada@localhost", Address(SINGLE, LOCAL, username="ada")),
        ("redis://a%40b:c%25d@localhost", Address(SINGLE, LOCAL, username="a@b", password="c%d")),
        ("redis://localhost/?db=3", Address(SINGLE, LOCAL, db=3)),
        ("redis://my_cache.example.:6379", Address(SINGLE, (Host("my_cache.example.", 6379),))),
        ("redis://[::ffff:192.0.2.7]", Address(SINGLE, (Host("::ffff:192.0.2.7", 6379),))),
        ("redis+cluster://one/", Address(CLUSTER, (Host("one", 6379),))),
        ("rediss://localhost", Address(SINGLE, LOCAL, tls=TlsOptions())),
        (
            "rediss://localhost/1?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k%20.pem",
            Address(SINGLE, LOCAL, db=1, tls=TlsOptions("/ca.pem", "/c.pem", "/k .pem")),
        ),
        (
            "rediss://localhost?ssl_ca_certs=/a+b.pem",
            Address(SINGLE, LOCAL, tls=TlsOptions("/a+b.pem")),
        ),
        (
            "rediss://localhost?ssl_cert_reqs=none&ssl_check_hostname=false",
            Address(SINGLE, LOCAL, tls=TlsOptions(verify=False, check_hostname=False)),
        ),
        ("unix:///run/redis.sock", Address(SINGLE, path="/run/redis.sock")),
        (
            "unix://ada:secret@/run/my%20redis.sock?db=2",
            Address(SINGLE, path="/run/my redis.sock", username="ada", password="secret", db=2),
        ),
        (
            "redis+sentinel://one,two:1234,[::2]:5/main",
            Address(SENTINEL, (Host("one", 26379), Host("two", 1234), Host("::2", 5)), service="main"),
        ),
        (
            "rediss+sentinel://u:p@one/main?db=4&sentinel_username=su&sentinel_password=s%26p",
            Address(
                SENTINEL,
                (Host("one", 26379),),
                service="main",
                username="u",
                password="p",
                db=4,
                tls=TlsOptions(),
                sentinel_username="su",
                sentinel_password="s&p",
            ),
        ),
        (
            "redis+sentinel://one/main?sentinel_password=a+b%2B%20c",
            Address(SENTINEL, (Host("one", 26379),), service="main", sentinel_password="a+b+ c"),
        ),
        ("redis://a+d:a+b@localhost", Address(SINGLE, LOCAL, username="a+d", password="a+b")),
        ("unix:///run/a+b.sock", Address(SINGLE, path="/run/a+b.sock")),
        (
            "redis+sentinel://one/ma+in?sentinel_username=s+u&sentinel_password=p",
            Address(
                SENTINEL,
                (Host("one", 26379),),
                service="ma+in",
                sentinel_username="s+u",
                sentinel_password="p",
            ),
        ),
        ("redis+cluster://one,two:1234", Address(CLUSTER, (Host("one", 6379), Host("two", 1234)))),
        (
            "rediss+cluster://u:p@one/0?ssl_check_hostname=no",
            Address(
                CLUSTER,
                (Host("one", 6379),),
                username="u",
                password="p",
                tls=TlsOptions(check_hostname=False),
            ),
        ),
    ],
)
def test_what_a_url_says(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize("url", ["memory", "http://SECRET@localhost", "redis:/localhost", "valkey://host"])
def test_what_is_no_url_of_a_redis(url: str) -> None:
    with pytest.raises(ValueError, match="begins with redis://, rediss://") as caught:
        parse_url(url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://", "needs a host"),
        ("redis://:SECRET@", "needs a host"),
        ("redis://ada:SEC/RET@localhost", "a / in its user or password must be written %2F"),
        ("redis://ada:1/RET@localhost/0", "a / in its user or password must be written %2F"),
        ("redis+sentinel://ada:1/RET@localhost", "a / in its user or password must be written %2F"),
        ("redis://ada:SEC:RET/@localhost", "a / in its user or password must be written %2F"),
        ("redis://ada:1?RET@localhost", "after the ?"),
        ("redis://ada:SEC?RET@localhost", "after the ?"),
        ("redis://ada:SEC#RET@localhost", "a # or a space in it must be written %23"),
        ("redis://ada:SECRET%FF@localhost", "must be UTF-8"),
        ("redis://ada:SECRET@RET@localhost", "an @ in its user or password must be written %40"),
        ("redis+sentinel://u:SECRET@one,u:SECRET@two/main", "and they stand there once"),
        ("redis://ada:100%SECRET@localhost", "a % in it must be written %25"),
        ("redis+sentinel://one/main?sentinel_password=SECRET%", "a % in it must be written %25"),
        ("redis://localhost:SECRET", "needs a host"),
        ("redis://localhost:", "needs a host"),
        ("redis://:6379", "needs a host"),
        ("redis://,one", "needs a host"),
        ("redis://one..two", "needs a host"),
        ("redis://SEC%2DRET", "needs a host"),
        ("redis://SEC=RET", "needs a host"),
        ("redis://::1", "an IPv6 address stands in [ ]"),
        ("redis://[]", "needs a host"),
        ("redis://[::1]SECRET", "needs a host"),
        ("redis://[1::2::3]", "needs a host"),
        ("redis://[127.0.0.1]", "needs a host"),
        ("redis://[fe80::1%25eth0]", "needs a host"),
        ("redis://localhost:0", "needs a host"),
        ("redis://localhost:65536", "needs a host"),
        ("redis://[::1", "needs a host"),
        ("redis://a b", "or a space in it must be written %23 or %20"),
        ("redis://localhost,", "needs a host"),
        ("redis://one,two", "of several hosts, say whether"),
        ("redis://localhost/SECRET", "the database must be a number"),
        ("redis://localhost/-1", "the database must be a number"),
        ("redis://localhost/1/", "the database must be a number"),
        ("redis://localhost//", "the database must be a number"),
        ("redis://localhost/SEC%0ARET", "must be printable"),
        ("redis://localhost/1?db=1", "the database is in it twice"),
        ("redis://localhost?db=1&db=1", "an option is in it twice"),
        ("redis://localhost?db=1&%64b=2", "an option is in it twice"),
        ("redis+sentinel://one/main?sentinel_password=SECRET&sentinel_password=RET", "is in it twice"),
        ("redis://localhost?db=SECRET", "the database must be a number"),
        ("redis://localhost?SECRET=1", "not known; of this kind of URL there are db"),
        ("redis://localhost?ssl_ca_certs=/SECRET", "not known; of this kind of URL there are db"),
        ("redis+cluster://localhost?db=1", "not known; of this kind of URL there are none"),
        ("redis+cluster://localhost/1", "a cluster has no databases"),
        ("redis://localhost?db", "after the ?"),
        ("redis://localhost?db=1&", "after the ?"),
        ("redis://localhost?db=", "after the ?"),
        ("rediss://localhost?ssl_ca_certs=", "after the ?"),
        ("redis+sentinel://localhost", "the name of the service"),
        ("redis+sentinel://localhost/", "the name of the service"),
        ("redis+sentinel://localhost/a/", "the name of the service"),
        ("redis+sentinel://localhost/a/b", "the name of the service"),
        ("redis+cluster://localhost//", "a cluster has no databases"),
        ("unix://SECRET/run/redis.sock", "the path of a socket"),
        ("unix://", "the path of a socket"),
        ("unix:///", "the path of a socket"),
        ("unix:///run/redis.sock/", "the path of a socket"),
        ("unix:///run/SEC%00RET", "must be printable"),
        ("rediss://localhost?ssl_cert_reqs=SECRET", "ssl_cert_reqs must be one of required, none"),
        ("rediss://localhost?ssl_check_hostname=SECRET", "ssl_check_hostname must be one of"),
        ("rediss://localhost?ssl_keyfile=/SECRET", "ssl_keyfile is set and ssl_certfile is not"),
    ],
)
def test_what_is_wrong_is_said_without_repeating_any_of_it(url: str, complaint: str) -> None:
    with pytest.raises(RedisUrlError) as caught:
        parse_url(url)
    assert complaint in str(caught.value)
    assert "SEC" not in str(caught.value)
    assert "RET" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_neither_password_is_shown() -> None:
    address = parse_url("redis+sentinel://u:FIRST@one,[::1]:2/main?sentinel_password=SECOND")
    assert str(address) == "one:26379, [::1]:2"
    assert "FIRST" not in repr(address)
    assert "SECOND" not in repr(address)
    assert str(parse_url("unix://:FIRST@/run/redis.sock")) == "/run/redis.sock"


def test_files_for_tls_are_read(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    (tmp_path / "no.pem").write_text("nothing")
    ca, both, none = (str(tmp_path / name) for name in ("ca.pem", "both.pem", "no.pem"))

    context = TlsOptions(ca, both).make_context()
    assert context.check_hostname
    assert [each["subject"] for each in context.get_ca_certs()]
    assert TlsOptions(str(tmp_path)).make_context().get_ca_certs() == []  # looked up when one is wanted
    assert not TlsOptions(verify=False).make_context().check_hostname
    for options, name in (
        (TlsOptions(none), "ssl_ca_certs"),
        (TlsOptions("/nowhere"), "ssl_ca_certs"),
        (TlsOptions(ca, none), "ssl_certfile"),
        (TlsOptions(ca, "/nowhere"), "ssl_certfile"),
        (TlsOptions(ca, both, ca), "ssl_keyfile"),
    ):
        with pytest.raises(ValueError, match=name):
            options.make_context()
