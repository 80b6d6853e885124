"""How deep JSON is, and that every Python reads the same."""

import json
import math
from itertools import product
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localful_ws.protocol import (
    MAX_DEPTH,
    MESSAGE_DEPTH,
    DepthError,
    decode_json,
    find_too_deep,
    is_too_deep,
    json_text,
)


def depth_of(text: str) -> int:
    """How deep a parser goes that reads a text from its beginning, a character at a time."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        else:
            depth += (character in "[{") - (character in "]}")
            deepest = max(deepest, depth)
    return deepest


def judged(text: str) -> int:
    """The least depth at which a text is not too deep, as text and as bytes."""
    found = next(depth for depth in range(len(text) + 1) if not is_too_deep(text, depth))
    assert not is_too_deep(text.encode(errors="surrogatepass"), found)
    assert found == 0 or is_too_deep(text.encode(errors="surrogatepass"), found - 1)
    return found


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("", 0),
        ("1", 0),
        ("[]", 1),
        ("[[]]", 2),
        ("[[],[],{}]", 2),
        ('[{"a":[]},[]]', 3),
        ("[[]][[[]]]", 3),
        ("[[[", 3),
        ("[[]]]]][[[[", 2),
        ('["[[[["]', 1),
        ('["[[[[","]]",["{"]]', 2),
        ('"', 0),
        ('["[[[', 1),
        (r'["\"[[["]', 1),
        (r'["\\",[[]]]', 3),
        (r'["\\\"[[",[]]', 2),
        (r'["\\\\",[],"\\"]', 2),
        (r'{"\"[":{"[\\":"\\\"{"}}', 2),
        ('["","",["","[",""]]', 2),
        ('{"a[":"b","c":{"d":"[[[]"}}', 2),
        ("[\ud800[\U0001f600]]", 2),
    ],
)
def test_depth(text: str, depth: int) -> None:
    assert judged(text) == depth == depth_of(text)


json_values = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\,:a\ud83c\U0001f600', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=3)
    ),
    max_leaves=30,
)


@given(json_values.map(json.dumps) | json_values.map(lambda value: json.dumps(value, ensure_ascii=False)))
def test_of_json_it_is_the_depth_of_its_values(text: str) -> None:
    def depth(value: object) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert judged(text) == depth_of(text) == depth(json.loads(text))


@given(json_values.map(json.dumps), st.integers(0, 200), st.text('[]{}"\\,:a', max_size=20))
def test_a_parser_goes_no_deeper_in_what_breaks_off(text: str, at: int, rest: str) -> None:
    broken = text[:at] + rest
    try:
        _, end = json.JSONDecoder().raw_decode(broken)
    except json.JSONDecodeError as error:
        end = error.pos
    assert judged(broken) >= depth_of(broken[:end])


def nested(depth: int) -> str:
    return '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2)


def test_a_message_is_a_level_deeper_than_the_value_of_a_key() -> None:
    assert (MAX_DEPTH, MESSAGE_DEPTH) == (100, 101)
    assert decode_json(f"[{nested(100)}]") == [json.loads(nested(100))]
    assert decode_json(nested(100), MAX_DEPTH) == json.loads(nested(100))
    for text, depth in ((nested(102), MESSAGE_DEPTH), (f"[{nested(100)}]", MAX_DEPTH)):
        with pytest.raises(DepthError, match=r"^is nested more than 100 deep$"):
            decode_json(text, depth)


@pytest.mark.parametrize(
    ("beginning", "text", "depth"),
    [
        ("", "[],", 1),
        ("[", "[[],{}],", 3),
        ("", '{"a":[1,[2,[{"b":"[["}]]]},', 5),
        # Some that are never closed are the deepest, and some are closed that never began.
        ("[[[[", "[]", 5),
        ("[[[[]]]]", "[[]]", 4),
        ("]", "[[]]", 1),
        ("", "[[]", 10_001),
        ("{{{{[", "[}{]", 6),
        ("[[[", "[[]][]", 5),
    ],
)
def test_very_many_brackets(beginning: str, text: str, depth: int) -> None:
    """Of those whole layers are taken off, which must not change how deep they are."""
    many = beginning + text * (30_000 // len(text))
    assert is_too_deep(many, depth - 1)
    assert not is_too_deep(many, depth)


def test_every_short_row_of_brackets_as_if_it_were_a_long_one() -> None:
    with patch.object(json_text, "_MANY_BRACKETS", 0):
        for text in map("".join, product("[]", repeat=9)):
            assert [is_too_deep(text, depth) for depth in range(10)] == [
                depth_of(text) > depth for depth in range(10)
            ]


@pytest.mark.parametrize("size", range(1, 6))
def test_in_whatever_pieces_a_text_is_looked_at(size: int) -> None:
    """Every short text, so that all there is comes to lie before, on and behind the border of two pieces."""
    for text in map("".join, product('[]"\\', repeat=6)):
        whole = [is_too_deep(text, depth) for depth in range(3)]
        with patch.object(json_text, "_PIECE", size):
            assert [is_too_deep(text, depth) for depth in range(3)] == whole, text


@pytest.mark.parametrize("text", ["[" * 1_000_000, '{"a":' * 200_000, "nonsense" + "[" * 102])
def test_what_is_too_deep_need_not_be_json(text: str) -> None:
    with pytest.raises(DepthError):
        decode_json(text)


@pytest.mark.parametrize(
    ("text", "depth", "path"),
    [
        ('{"a":{"b":[1,[2]]}}', 3, ("a", "b", 1)),
        ('{"a":{"b":[1,[2]]}}', 2, ("a", "b")),
        ('{"a":{"b":[1,[2]]}}', 0, ()),
        ('{"events":[{"data":1},{"user":"u","data":[[0,1],[{}]]}]}', 5, ("events", 1, "data", 1, 0)),
        ('[[],[],["a",{"b":",","c":"]","d":["]\\"[",{}]}]]', 4, (2, 1, "d", 1)),
        ('{"a":"x","[\\"":[1]}', 1, ('[\\"',)),
        ("]]}[[[", 2, (0, 0)),
        ('{"a":1', 1, ()),
        ("{[1]}", 1, ("",)),
        ('{"a":1,[2]}', 1, ("",)),
    ],
)
def test_where_it_is_too_deep(text: str, depth: int, path: tuple[str | int, ...]) -> None:
    assert find_too_deep(text, depth) == path


@given(json_values.map(json.dumps), st.integers(0, 5))
@example("[[]]", 1)
def test_what_is_found_is_the_first_that_is_too_deep(text: str, depth: int) -> None:
    if not is_too_deep(text, depth):
        assert find_too_deep(text, depth) == ()
        return
    path = find_too_deep(text, depth)
    assert len(path) == depth
    for end in range(len(text)):
        if depth_of(text[:end]) > depth:
            assert find_too_deep(text[:end], depth) == path
            assert text[end - 1] in "[{"
            return


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        ("-17", -17),
        ("9" * 640, 10**640 - 1),
        ("9" * 641, math.inf),
        ("-" + "9" * 640, 1 - 10**640),
        ("-" + "9" * 641, -math.inf),
        ("9" * 5000, math.inf),
        ("1e999", math.inf),
        ("-1e999", -math.inf),
        ("0." + "3" * 5000, 1 / 3),
        ("1e-999", 0.0),
    ],
)
def test_numbers_of_any_size(text: str, value: float) -> None:
    [read] = decode_json(f"[{text}]")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text} is not a JSON number$"):
        decode_json(f"[{text}]")


@pytest.mark.parametrize("text", ["", "{", "[1]]", "\ufeff{}", "'a'", '"\n"', "01"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        decode_json(text)
