import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.fields import decode_field, decode_fields

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


@given(body=st.dictionaries(st.text(max_size=8), json_values, max_size=6))
def test_the_fields_are_those_of_the_object(body: dict[str, object]) -> None:
    fields = decode_fields(msgspec.json.encode(body))

    assert {name: decode_field(fields, name) for name in fields} == body


def test_a_field_is_the_clients_own_json() -> None:
    fields = decode_fields(b'{ "a" : [1,  2.50] , "b":"\\u00e9" }')

    assert {name: bytes(raw) for name, raw in fields.items()} == {
        "a": b"[1,  2.50]",
        "b": b'"\\u00e9"',
    }


def test_of_two_fields_of_one_name_the_last_counts_however_the_name_is_written() -> None:
    fields = decode_fields(b'{"n": 1, "m": 3, "\\u006e": 2}')

    assert {name: bytes(raw) for name, raw in fields.items()} == {"n": b"2", "m": b"3"}


@pytest.mark.parametrize("body", [b"[]", b"null", b'"a"', b"1"])
def test_what_is_no_object_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(RequestError, match="JSON object") as raised:
        decode_fields(body)

    assert raised.value.fault is Fault.INVALID_REQUEST


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a":1}x',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud800 and more of it"}',
        b'{"\xff":1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: body[:20],
)
def test_what_is_no_json_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(RequestError, match="not valid JSON") as raised:
        decode_fields(body)

    assert raised.value.fault is Fault.INVALID_JSON


@pytest.mark.parametrize("value", [b'"\xff"', b'"\xed\xa0\x80"', b"1e999", b"1" * 5000])
def test_what_only_a_full_decoding_finds_is_refused_by_the_fields_name(value: bytes) -> None:
    fields = decode_fields(b'{"a":' + value + b"}")

    with pytest.raises(RequestError, match="a is not valid JSON") as raised:
        decode_field(fields, "a")

    assert (raised.value.fault, raised.value.param) == (Fault.INVALID_JSON, "a")


def test_a_missing_field_is_none() -> None:
    assert decode_field({}, "a") is None
