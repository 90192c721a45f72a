"""Which header fields go on, and how they are written."""

import pytest

from twofold_router.http.headers import end_to_end, header_lines, tokens


def test_fields_of_one_hop_do_not_go_on() -> None:
    headers = {
        b"host": b"x",
        b"content-type": b"application/json",
        b"connection": b"close, X-Secret",
        b"x-secret": b"1",
        b"keep-alive": b"timeout=5",
        b"proxy-authorization": b"Basic x",
        b"te": b"trailers",
        b"trailer": b"x",
        b"transfer-encoding": b"chunked",
        b"upgrade": b"h2c",
        b"content-length": b"3",
        b"date": b"now",
        b"x-request-id": b"r",
    }

    assert end_to_end(headers) == [(b"content-type", b"application/json"), (b"x-request-id", b"r")]


def test_tokens_are_compared_in_lower_case_and_without_spaces() -> None:
    assert tokens(b"Close ,\tkeep-Alive") == {b"close", b"keep-alive"}


def test_lines_are_written_in_order() -> None:
    assert header_lines([(b"b", b"1"), (b"a", b"")]) == b"b: 1\r\na: \r\n"


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\n", b"a\r", b"\r\n", b"a\0b"])
@pytest.mark.parametrize("place", ["name", "value"])
def test_a_field_that_would_be_two_is_not_written(bad: bytes, place: str) -> None:
    pair = (bad, b"x") if place == "name" else (b"x", bad)

    with pytest.raises(ValueError, match="line break"):
        header_lines([(b"a", b"b"), pair])
