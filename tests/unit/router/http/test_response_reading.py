"""Bytes to answers: cut anywhere, and never believed beyond their end."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.http.errors import BrokenError
from twofold_router.http.limits import ClientLimits
from twofold_router.http.response_reading import ResponseReader

LIMITS = ClientLimits(header_bytes=1000)

OK = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
LENGTH = OK + b"Content-Length: 5\r\nX: 1 \r\nX: 2\r\n\r\nhello"
CHUNKED = (
    OK + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
UNTIL_CLOSE = OK + b"\r\nhello"


def new_reader(*, is_head: bool = False) -> ResponseReader:
    reader = ResponseReader(LIMITS)
    reader.begin(is_head=is_head)
    return reader


def read(data: bytes, cuts: list[int] | None = None, *, reader: ResponseReader) -> bytes:
    """Feed *data* in pieces and return the body."""
    body = b""
    for begin, end in pairwise([0, *sorted(cuts or []), len(data)]):
        reader.feed(data[begin:end])
        body += b"".join(reader.pieces)
        reader.pieces.clear()
    return body


@given(
    answers=st.lists(st.sampled_from([LENGTH, CHUNKED, EMPTY]), min_size=1, max_size=4),
    interim=st.booleans(),
    data=st.data(),
)
def test_cuts_change_nothing(answers: list[bytes], interim: bool, data: st.DataObject) -> None:
    reader = ResponseReader(LIMITS)
    for answer in answers:
        stream = INTERIM * interim + answer
        reader.begin(is_head=False)

        body = read(stream, data.draw(st.lists(st.integers(0, len(stream)))), reader=reader)

        assert body == (b"" if answer is EMPTY else b"hello")
        assert reader.status == (204 if answer is EMPTY else 200)
        assert reader.is_complete
        assert reader.keeps
        assert reader.headers.keys().isdisjoint({b"link", b"trailer"})


@pytest.mark.parametrize("answer", [INTERIM + LENGTH, CHUNKED])
def test_nothing_but_the_end_is_the_end(answer: bytes) -> None:
    for cut in range(len(answer)):
        reader = new_reader()
        read(answer[:cut], reader=reader)

        assert not reader.is_complete
        with pytest.raises(BrokenError, match="ended"):
            reader.end()


def test_repeated_fields_are_joined() -> None:
    reader = new_reader()
    read(LENGTH, reader=reader)

    assert reader.headers == {b"content-length": b"5", b"x": b"1, 2"}


def test_a_body_may_end_with_its_connection() -> None:
    reader = new_reader()

    assert read(UNTIL_CLOSE, reader=reader) == b"hello"
    was_complete = reader.is_complete
    reader.end()
    assert (was_complete, reader.is_complete, reader.keeps) == (False, True, False)


def test_an_answer_to_head_has_no_body_and_is_the_last() -> None:
    reader = new_reader(is_head=True)

    assert read(LENGTH, cuts=[len(LENGTH) - 3], reader=reader) == b""
    assert reader.is_complete
    assert not reader.keeps


@pytest.mark.parametrize(
    "rest", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"0\r\n\r\n", b"H"]
)
@pytest.mark.parametrize("answer", [LENGTH, CHUNKED])
def test_what_follows_an_answer_ends_the_connection_and_is_no_part_of_it(
    answer: bytes, rest: bytes
) -> None:
    reader = new_reader()

    assert read(answer + rest, reader=reader) == b"hello"
    assert reader.status == 200
    assert reader.is_complete
    assert not reader.keeps


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_may_be_the_last(answer: bytes) -> None:
    reader = new_reader()
    read(answer, reader=reader)

    assert reader.is_complete
    assert not reader.keeps


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\nx",
        OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        OK + b"A: b\nContent-Length: 0\r\n\r\n",
        OK + b"A: " + b"x" * 1001,
        b"HTTP/1.1 103 Early\r\n\r\n" * 60,
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 1001,
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 1001,
    ],
)
@pytest.mark.parametrize("step", [1, 100])
def test_what_is_no_answer_is_broken(data: bytes, step: int) -> None:
    with pytest.raises(BrokenError):
        read(data, list(range(0, len(data), step)), reader=new_reader())


def test_small_framing_in_reads_of_its_own_does_not_add_up() -> None:
    reader = new_reader()
    read(OK + b"Transfer-Encoding: chunked\r\n\r\n", reader=reader)

    for _ in range(1000):
        assert read(b"1\r\na\r\n", [3], reader=reader) == b"a"
