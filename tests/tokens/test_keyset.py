"""Which keys of a JSON Web Key Set are used (RFC 7517)."""

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from hypothesis import given
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from localful_ws.tokens.keyset import MAX_KEYS, KeySet, parse_key_set
from tests.tokens.token_samples import ec_key, ed_key, rsa_key

RSA = RSAAlgorithm.to_jwk(rsa_key().public_key(), as_dict=True)
EC = ECAlgorithm.to_jwk(ec_key().public_key(), as_dict=True)
ED = OKPAlgorithm.to_jwk(ed_key().public_key(), as_dict=True)
USABLE = {"kid": "usable", **ED}


def parse(*members: object, algorithm: str | None = None) -> KeySet:
    return parse_key_set(json.dumps({"keys": members}).encode(), algorithm)


@pytest.mark.parametrize(("member", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_key_has_the_algorithm_of_its_type(member: dict[str, Any], algorithm: str) -> None:
    for marks in ({}, {"use": "sig"}, {"key_ops": ["verify"]}, {"alg": algorithm}, {"further": 1}):
        for wanted in (None, algorithm):
            keys = parse({"kid": "k", **member, **marks}, algorithm=wanted)
            found = keys.find("k")
            assert found is not None
            assert found.algorithm == algorithm
            assert keys.find(None) is found
            assert keys.find("other") is None


def test_only_the_wanted_algorithm() -> None:
    members = [{"kid": "r", **RSA}, {"kid": "e", **EC}, {"kid": "d", **ED}]
    assert set(parse(*members).by_id) == {"r", "e", "d"}
    for wanted, key_id in (("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")):
        keys = parse(*members, algorithm=wanted)
        assert set(keys.by_id) == {key_id}
        assert keys.only is keys.by_id[key_id]


WITHOUT = "leave this one out"
SKIPPED: list[Any] = [
    None,
    5,
    "key",
    [],
    {},
    {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
    {"kty": "oct", "alg": "HS256", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
    {**RSA, "kty": "rsa"},
    {**RSA, "kty": ["RSA"]},
    {**RSA, "kty": None},
    {**RSA, "use": "enc"},
    {**RSA, "use": None},
    {**RSA, "alg": "RSA-OAEP"},
    {**RSA, "alg": "PS256"},
    {**RSA, "alg": "HS256"},
    {**RSA, "alg": "none"},
    {**RSA, "alg": ["RS256"]},
    {**RSA, "key_ops": ["encrypt"]},
    {**RSA, "key_ops": "verify"},
    {**RSA, "key_ops": None},
    {**RSA, "n": WITHOUT},
    {**RSA, "e": WITHOUT},
    {**RSA, "n": 5},
    {**RSA, "n": "ø"},
    {**RSA, "n": ""},
    {**RSA, "e": "AA"},
    {**RSA, "n": "\ud800"},
    {**EC, "crv": "P-384"},
    {**EC, "crv": "P-521"},
    {**EC, "crv": "secp256k1"},
    {**EC, "crv": ["P-256"]},
    {**EC, "x": EC["y"]},
    {**EC, "x": "AAAA"},
    {**EC, "y": None},
    {**ED, "crv": "Ed448"},
    {**ED, "crv": "X25519"},
    {**ED, "x": "AAAA"},
    {**ED, "x": {}},
    RSAAlgorithm.to_jwk(rsa_key(), as_dict=True),
    ECAlgorithm.to_jwk(ec_key(), as_dict=True),
    OKPAlgorithm.to_jwk(ed_key(), as_dict=True),
    RSAAlgorithm.to_jwk(rsa_key(bits=1024).public_key(), as_dict=True),
    ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
    OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True),
]


@pytest.mark.parametrize("member", SKIPPED)
def test_other_keys_are_skipped(member: Any) -> None:
    if isinstance(member, dict):
        member = {name: value for name, value in member.items() if value != WITHOUT} | {"kid": "k"}
    keys = parse(member, USABLE)
    assert list(keys.by_id) == ["usable"]
    assert keys.only is keys.by_id["usable"]
    with pytest.raises(ValueError, match=r"^the key set holds no key that can be used$"):
        parse(member)


@pytest.mark.parametrize("key_id", [5, None, ["k"], {}])
def test_a_kid_is_a_string(key_id: object) -> None:
    assert list(parse({**RSA, "kid": key_id}, USABLE).by_id) == ["usable"]


def test_of_two_keys_with_one_name_the_first_is_used() -> None:
    keys = parse({**RSA, "kid": "k"}, {**EC, "kid": "k"})
    assert keys.by_id["k"].algorithm == "RS256"
    assert keys.count == 1


def test_keys_without_a_name() -> None:
    keys = parse(ED)
    assert keys.by_id == {}
    assert keys.find(None) is not None
    keys = parse(ED, EC)
    assert keys.count == 2
    assert keys.find(None) is None


def test_a_set_is_bounded() -> None:
    keys = parse(*[{**ED, "kid": str(number)} for number in range(MAX_KEYS + 1)])
    assert keys.count == len(keys.by_id) == MAX_KEYS
    assert str(MAX_KEYS) not in keys.by_id


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"keys":null}',
        b'{"keys":{}}',
        b'{"keys":"RSA"}',
        b"\xff",
        b"[" * 100_000,
        b'{"keys":[],"more":NaN}',
    ],
)
def test_what_is_no_key_set(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"^the answer is not a JSON Web Key Set$"):
        parse_key_set(document, None)


def test_an_empty_set() -> None:
    with pytest.raises(ValueError, match=r"^the key set holds no key that can be used$"):
        parse()


values = st.none() | st.integers() | st.text(st.characters(), max_size=50) | st.lists(st.text(), max_size=2)


@given(
    st.sampled_from([RSA, EC, ED]),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "x", "y", "d", "p", "oth", "alg", "use"]), values
    ),
)
def test_damaged_keys_do_no_harm(member: dict[str, Any], damage: dict[str, object]) -> None:
    assert "usable" in parse({**member, **damage}, USABLE).by_id
