"""The eleven events: their kinds, what can't be, and how one is written."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localful_ws.protocol import Event, EventKind, EventName, data_in, encode_event, text_frame

KINDS = {
    "user-update": EventKind.USER,
    "user-password-change": EventKind.USER,
    "user-email-change": EventKind.USER,
    "user-delete": EventKind.USER,
    "vault-create": EventKind.VAULT,
    "vault-update": EventKind.VAULT,
    "vault-delete": EventKind.VAULT,
    "item-create": EventKind.DATA,
    "item-delete": EventKind.DATA,
    "version-create": EventKind.DATA,
    "version-delete": EventKind.DATA,
}


def test_kinds() -> None:
    assert {name.value: name.kind for name in EventName} == KINDS


@pytest.mark.parametrize("name", EventName)
def test_is_found_by_its_name_on_the_wire(name: EventName) -> None:
    assert EventName(name.value) is name  # type: ignore[call-arg]


@pytest.mark.parametrize("name", EventName)
@pytest.mark.parametrize("vault", [None, "v"])
def test_names_a_vault_exactly_if_its_kind_has_one(name: EventName, vault: str | None) -> None:
    if (vault is None) == (name.kind is EventKind.USER):
        assert Event(name, "u", vault).vault == vault
    else:
        with pytest.raises(ValueError, match=f"^{name.value} "):
            Event(name, "u", vault)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(EventName.USER_UPDATE, "u"), '{"event":"user-update","data":null}'),
        (Event(EventName.USER_UPDATE, "u", group="g"), '{"event":"user-update","data":null}'),
        (
            Event(EventName.VAULT_DELETE, "u", "v", "g", b'"x"'),
            '{"event":"vault-delete","vault":"v","data":"x"}',
        ),
        (
            Event(EventName.ITEM_CREATE, "u", 'é"\\\n\U0001f600', None, b"1"),
            '{"event":"item-create","vault":"é\\"\\\\\\n\U0001f600","data":1}',
        ),
        (
            Event(EventName.VERSION_CREATE, "u", "v", None, '{ "b": 1.0, "a": "é\\u00e9" }'.encode()),
            '{"event":"version-create","vault":"v","data":{ "b": 1.0, "a": "é\\u00e9" }}',
        ),
    ],
)
def test_encodes_with_data_byte_for_byte(event: Event, text: str) -> None:
    assert encode_event(event, "a.1") == (text[:-1] + ',"cursor":"a.1"}').encode()


@given(
    st.sampled_from([name for name in EventName if name.kind is not EventKind.USER]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=3),
)
@example(EventName.ITEM_CREATE, ',"data":', ',"data":')
@example(EventName.ITEM_CREATE, "v", {"id": 1, "data": 2})
@example(EventName.ITEM_CREATE, "v", "x" * 65536)
def test_what_is_written_is_json_with_four_keys(name: EventName, vault: str, data: object) -> None:
    event = Event(name, "the-user", vault, "the-group", json.dumps(data, separators=(",", ":")).encode())
    assert json.loads(encode_event(event, "a.1")) == {
        "event": name.value,
        "vault": vault,
        "data": data,
        "cursor": "a.1",
    }
    assert data_in(encode_event(event, "a.1"), "a.1") == event.data
    assert data_in(text_frame(encode_event(event, "a.1")), "a.1") == event.data


def test_an_event_does_not_show_its_data() -> None:
    assert "s3cr3t" not in repr(Event(EventName.USER_UPDATE, "u", data=b'"s3cr3t"'))
