"""What is read of a client's request, and what an engine is sent of it."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.apis import Api, PassedOnApi
from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import ANONYMOUS, Caller, Classes
from twofold_router.gateway.parsing import (
    MAX_OUTPUT_TOKENS,
    Call,
    max_output_tokens,
    parse_call,
    request_id_from,
)
from twofold_router.http import Request

JSON = {b"content-type": b"application/json"}
TERMS = Classes().resolve({}, ANONYMOUS)
ALICE = Caller("alice", "hers", salt="pepper", class_name=None, models=frozenset({"m"}))


def parse(
    raw: bytes,
    headers: dict[bytes, bytes] | None = None,
    *,
    api: Api | PassedOnApi = Api.CHAT,
    caller: Caller = ANONYMOUS,
) -> Call:
    told = JSON if headers is None else headers
    request = Request("POST", api, "", told, keep_alive=True, is_http_1_0=False, body=raw)
    return parse_call(request, "id", api, caller, TERMS, 7.0, lambda _: "only")


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", Fault.INVALID_JSON),
        (b"{", Fault.INVALID_JSON),
        (b"\xff\xfe", Fault.INVALID_JSON),
        (b'{"model": "m", "a": ' + b"[" * 100_000, Fault.INVALID_JSON),
        (b'{"model": "\xff"}', Fault.INVALID_JSON),
        (b"[]", Fault.INVALID_REQUEST),
        (b"null", Fault.INVALID_REQUEST),
        (b'{"model": 3}', Fault.INVALID_REQUEST),
        (b'{"model": false}', Fault.INVALID_REQUEST),
        (b'{"model": []}', Fault.INVALID_REQUEST),
    ],
)
def test_a_body_that_is_no_request_is_refused(raw: bytes, fault: Fault) -> None:
    with pytest.raises(RequestError) as caught:
        parse(raw)

    assert caught.value.fault is fault


@given(st.binary(max_size=200))
def test_no_body_whatever_raises_anything_else(raw: bytes) -> None:
    with contextlib.suppress(RequestError):
        parse(raw)


def test_fields_that_the_router_does_not_know_stay_as_they_came() -> None:
    call = parse(b'{"model": "m", "of_2031": {"x" : [1, null]} }')

    assert bytes(call.fields["of_2031"]) == b'{"x" : [1, null]}'
    assert (call.model, call.request_id, call.arrived_at) == ("m", "id", 7.0)


@pytest.mark.parametrize("raw", [b"{}", b'{"model": ""}', b'{"model": null}'])
def test_who_names_no_model_asks_for_the_only_one(raw: bytes) -> None:
    call = parse(raw)

    assert (call.model, bytes(call.fields["model"])) == ("only", b'"only"')
    with pytest.raises(RequestError) as caught:
        parse(raw, caller=ALICE)
    assert caught.value.fault is Fault.FORBIDDEN


CONTENT_TYPES = [
    (b"application/json", True),
    (b"Application/JSON ; charset=utf-8", True),
    (b"", False),
    (b"text/plain", False),
    (b"application/jsonp", False),
    (b"application/x-www-form-urlencoded", False),
]


@pytest.mark.parametrize(("content_type", "is_right"), CONTENT_TYPES)
def test_a_body_must_be_told_to_be_json(content_type: bytes, is_right: bool) -> None:
    expected: Any = contextlib.nullcontext() if is_right else pytest.raises(RequestError)
    with expected as caught:
        parse(b'{"model": "m"}', {b"content-type": content_type})

    assert is_right or caught.value.fault is Fault.WRONG_CONTENT_TYPE


def test_a_body_must_not_be_compressed() -> None:
    parse(b'{"model": "m"}', JSON | {b"content-encoding": b"identity"})
    with pytest.raises(RequestError, match="compressed"):
        parse(b'{"model": "m"}', JSON | {b"content-encoding": b"gzip"})


def test_an_engine_is_told_the_id_and_the_trace_and_nothing_else() -> None:
    told = {b"traceparent": b"1", b"tracestate": b"2", b"baggage": b"3"}
    kept = {b"authorization": b"x", b"x-api-key": b"x", b"cookie": b"x", b"x-request-id": b"theirs"}
    call = parse(b'{"model": "m"}', JSON | told | kept)

    assert dict(call.headers) == JSON | told | {b"x-request-id": b"id"}


def test_a_model_that_a_key_may_not_use_is_refused() -> None:
    parse(b'{"model": "m"}', caller=ALICE)
    with pytest.raises(RequestError) as caught:
        parse(b'{"model": "other"}', caller=ALICE)

    assert caught.value.fault is Fault.FORBIDDEN


def salt_of(raw: bytes, **more: Any) -> Any:
    salt = parse(raw, **more).fields.get("cache_salt")
    return None if salt is None else msgspec.json.decode(salt)


def test_a_tenants_salt_is_set_whatever_the_client_says() -> None:
    own = salt_of(b'{"model": "m"}', caller=ALICE)
    with_its_own = salt_of(b'{"model": "m", "cache_salt": "x"}', caller=ALICE)
    with_the_tenants = salt_of(b'{"model": "m", "cache_salt": "pepper"}', caller=ALICE)
    with_none = salt_of(b'{"model": "m", "cache_salt": [1]}', caller=ALICE)

    assert own == with_none == "pepper"
    assert len({own, with_its_own, with_the_tenants}) == 3


def test_without_a_key_a_clients_salt_stays() -> None:
    assert salt_of(b'{"model": "m"}') is None
    assert salt_of(b'{"model": "m", "cache_salt": "x"}') == "x"


def test_an_embeddings_prompt_is_a_tenants_own_as_well() -> None:
    assert salt_of(b'{"model": "m"}', api=PassedOnApi.EMBEDDINGS, caller=ALICE) == "pepper"


def test_what_leaves_no_cache_needs_no_salt() -> None:
    assert salt_of(b'{"model": "m"}', api=PassedOnApi.TOKENIZE, caller=ALICE) is None


LIMITS = [
    ({}, None),
    ({"max_tokens": 5}, 5),
    ({"max_completion_tokens": 6}, 6),
    ({"max_output_tokens": 7}, 7),
    ({"max_tokens": 2**64}, MAX_OUTPUT_TOKENS),
    ({"max_tokens": 10**400}, MAX_OUTPUT_TOKENS),
    ({"max_completion_tokens": 6, "max_tokens": 9}, 6),
    ({"max_tokens": None}, None),
    ({"max_tokens": 0}, None),
    ({"max_tokens": -1}, None),
    ({"max_tokens": "5"}, None),
]


@pytest.mark.parametrize(("fields", "limit"), LIMITS)
def test_the_bound_of_an_answer_is_read_under_all_its_names(
    fields: dict[str, Any], limit: int | None
) -> None:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}

    assert max_output_tokens(raw) == limit


@pytest.mark.parametrize("header", [b"a", b"~" * 128, b"3f-2:x/Y"])
def test_a_sane_request_id_is_kept(header: bytes) -> None:
    assert request_id_from(header) == header.decode()


BAD_IDS = [None, b"", b"a b", "ü".encode(), b"x" * 129, b"a\n", b"\x7f", b"a\x00"]


@pytest.mark.parametrize("header", BAD_IDS)
def test_any_other_request_id_is_replaced(header: bytes | None) -> None:
    made = [request_id_from(header) for _ in range(100)]

    assert len(set(made)) == 100
    assert all(name.isalnum() and len(name) >= 24 for name in made)
