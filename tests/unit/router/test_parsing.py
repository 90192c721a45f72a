import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.legs import Api
from twofold_router.gateway.parsing import parse_call, request_id_from


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", Fault.INVALID_JSON),
        (b"{", Fault.INVALID_JSON),
        (b"\xff\xfe", Fault.INVALID_JSON),
        (b"[" * 100_000, Fault.INVALID_JSON),
        (b"[]", Fault.INVALID_REQUEST),
        (b"null", Fault.INVALID_REQUEST),
        (b"{}", Fault.INVALID_REQUEST),
        (b'{"model": 3}', Fault.INVALID_REQUEST),
        (b'{"model": ""}', Fault.INVALID_REQUEST),
    ],
)
def test_a_body_that_is_no_request_is_refused(raw: bytes, fault: Fault) -> None:
    with pytest.raises(RequestError) as caught:
        parse_call("id", Api.CHAT, raw, 0.0)

    assert caught.value.fault is fault


@given(st.binary(max_size=200))
def test_no_body_whatever_raises_anything_else(raw: bytes) -> None:
    with contextlib.suppress(RequestError):
        parse_call("id", Api.CHAT, raw, 0.0)


def test_fields_that_the_router_does_not_know_stay() -> None:
    call = parse_call("id", Api.CHAT, b'{"model": "m", "of_2031": {"x": [1, null]}}', 0.0)

    assert call.body["of_2031"] == {"x": [1, None]}


@pytest.mark.parametrize("header", ["a", "~" * 128, "3f-2:x/Y"])
def test_a_sane_request_id_is_kept(header: str) -> None:
    assert request_id_from(header) == header


@pytest.mark.parametrize("header", [None, "", "a b", "ü", "x" * 129, "a\n", "\x7f"])
def test_any_other_request_id_is_replaced(header: str | None) -> None:
    made = request_id_from(header)

    assert made != header
    assert len(made) == 32
