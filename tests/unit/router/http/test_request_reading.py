"""Bytes to requests: cut anywhere, bounded, and refused when others may read them otherwise."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.http.limits import ServerLimits
from twofold_router.http.refusals import Refusal, RefusedError
from twofold_router.http.request import Request
from twofold_router.http.request_reading import SLICE_BYTES, Phase, RequestReader

LIMITS = ServerLimits(header_bytes=2000, header_count=20, body_bytes=5000)

LENGTH = (
    b"POST /a/b?c=d%20e HTTP/1.1\r\nHost: x:80\r\nContent-Length: 3\r\nX-Pad:  padded \t\r\n\r\nabc"
)
CHUNKED = (
    b"POST /c HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: Chunked\r\nA: 1\r\na: 2\r\n\r\n"
    b'3;x="y"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX-Trailer: v\r\n\r\n'
)
BARE = b"GET /models HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"
UPGRADE = (
    b"POST /u HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAA\r\nContent-Length: 4\r\n\r\nwxyz"
)
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OLD = b"POST /old HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"


def read(data: bytes, cuts: list[int] | None = None, limits: ServerLimits = LIMITS) -> list[object]:
    """Feed *data* in pieces; return the requests, and the refusal's kind if there is one."""
    results: list[object] = []
    reader = RequestReader(limits, results.append)
    edges = [0, *sorted(cuts or []), len(data)]
    try:
        for begin, end in pairwise(edges):
            reader.feed(data[begin:end])
    except RefusedError as refused:
        results.append(refused.kind)
    return results


def only(data: bytes, limits: ServerLimits = LIMITS) -> Request:
    (request,) = read(data, limits=limits)
    assert isinstance(request, Request)
    return request


def with_fields(*fields: bytes, body: bytes = b"", host: bytes = b"Host: x\r\n") -> bytes:
    return b"POST / HTTP/1.1\r\n" + host + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return with_fields(b"Transfer-Encoding: chunked", body=body)


def test_a_request_is_what_was_sent() -> None:
    request = only(LENGTH)

    assert request == Request(
        method="POST",
        path="/a/b",
        query="c=d%20e",
        headers={b"host": b"x:80", b"content-length": b"3", b"x-pad": b"padded"},
        keep_alive=True,
        is_http_1_0=False,
        body=b"abc",
    )


def test_chunks_are_joined_and_trailers_dropped() -> None:
    request = only(CHUNKED)

    assert request.body == b"abc0123456789"
    assert request.headers[b"a"] == b"1, 2"
    assert b"x-trailer" not in request.headers


def test_a_request_to_change_the_protocol_is_read_without_it() -> None:
    request = only(UPGRADE)

    assert request.body == b"wxyz"
    assert request.keep_alive
    assert b"upgrade" not in request.headers


def test_a_close_is_kept_when_an_upgrade_is_dropped() -> None:
    assert not only(UPGRADE.replace(b"Upgrade, ", b"close, Upgrade, ")).keep_alive


def test_http_1_0_is_never_kept() -> None:
    request = only(OLD)

    assert request.is_http_1_0
    assert not request.keep_alive


@pytest.mark.parametrize("last", [LAST, UPGRADE.replace(b"Upgrade, ", b"close, Upgrade, ")])
def test_what_follows_a_last_request_is_ignored(last: bytes) -> None:
    assert len(read(last + BARE)) == 1
    assert len(read(last + b"garbage", cuts=[len(last)])) == 1


@given(
    messages=st.lists(st.sampled_from([LENGTH, CHUNKED, BARE, UPGRADE]), min_size=1, max_size=5),
    last=st.sampled_from([b"", LAST, OLD]),
    data=st.data(),
)
def test_cuts_change_nothing(messages: list[bytes], last: bytes, data: st.DataObject) -> None:
    stream = b"".join(messages) + last
    cuts = data.draw(st.lists(st.integers(0, len(stream))))

    assert read(stream, cuts) == read(stream)
    assert len(read(stream)) == len(messages) + bool(last)


@pytest.mark.parametrize("cut", range(len(UPGRADE + CHUNKED + LENGTH)))
def test_every_single_cut_changes_nothing(cut: int) -> None:
    stream = UPGRADE + CHUNKED + LENGTH

    assert read(stream, [cut]) == read(stream, list(range(len(stream))))


SMUGGLED = {
    "length and chunked": with_fields(
        b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunked and length": with_fields(
        b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"
    ),
    "two equal lengths": with_fields(b"Content-Length: 1", b"Content-Length: 1", body=b"a"),
    "two lengths": with_fields(b"Content-Length: 1", b"Content-Length: 2", body=b"ab"),
    "list of lengths": with_fields(b"Content-Length: 5, 5", body=b"abcde"),
    "signed length": with_fields(b"Content-Length: +1", body=b"a"),
    "negative length": with_fields(b"Content-Length: -1", body=b"a"),
    "hexadecimal length": with_fields(b"Content-Length: 0x1", body=b"a"),
    "empty length": with_fields(b"Content-Length: "),
    "overflowing length": with_fields(b"Content-Length: 18446744073709551617", body=b"a"),
    "folded field": with_fields(b"A: b\r\n c"),
    "folded by a tab": with_fields(b"A: b\r\n\tc"),
    "space after the start line": with_fields(host=b" Host: x\r\n"),
    "space before the colon": with_fields(b"Content-Length : 1", body=b"a"),
    "space in a name": with_fields(b"Content Length: 1", body=b"a"),
    "no name": with_fields(b": a"),
    "no colon": with_fields(b"Host"),
    "bare line feed in the header": with_fields(b"A: b\nC: d"),
    "bare carriage return": with_fields(b"A: b\rC: d"),
    "bare line feed after the start line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "NUL in a value": with_fields(b"A: b\0c"),
    "control byte in a value": with_fields(b"A: b\x01c"),
    "DEL in a value": with_fields(b"A: b\x7fc"),
    "NUL in a name": with_fields(b"A\0: b"),
    "obs-text in a name": with_fields(b"A\xff: b"),
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the target": b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunked twice": with_fields(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked in two fields": with_fields(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunked not last": with_fields(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "vertical tab before chunked": with_fields(
        b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"
    ),
    "signed chunk": chunked(b"+1\r\na\r\n0\r\n\r\n"),
    "negative chunk": chunked(b"-1\r\na\r\n0\r\n\r\n"),
    "prefixed chunk": chunked(b"0x1\r\na\r\n0\r\n\r\n"),
    "space before a chunk's size": chunked(b" 1\r\na\r\n0\r\n\r\n"),
    "space after a chunk's size": chunked(b"1 \r\na\r\n0\r\n\r\n"),
    "overflowing chunk": chunked(b"10000000000000001\r\na\r\n0\r\n\r\n"),
    "chunk without a size": chunked(b"\r\n\r\n"),
    "line feed after a chunk's size": chunked(b"1\na\r\n0\r\n\r\n"),
    "line feed after a chunk": chunked(b"1\r\na\n0\r\n\r\n"),
    "line feed in an extension": chunked(b"1;a\nb\r\na\r\n0\r\n\r\n"),
    "chunk longer than its size": chunked(b"1\r\nab\r\n0\r\n\r\n"),
    "length in a trailer": chunked(b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "no host": with_fields(host=b""),
    "two hosts": with_fields(b"Host: x"),
    "host with a path": with_fields(host=b"Host: x/y\r\n"),
    "host with a user": with_fields(host=b"Host: u@x\r\n"),
    "two authorizations": with_fields(b"Authorization: a", b"Authorization: b"),
    "two content types": with_fields(b"Content-Type: a/b", b"Content-Type: c/d"),
    "another host in the target": b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "star for a path": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown version": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED.keys())
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_others_may_read_otherwise_is_refused(data: bytes, bytewise: bool) -> None:
    cuts = list(range(len(data))) if bytewise else []

    assert read(data + BARE, cuts) == [Refusal.BAD_REQUEST]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (with_fields(b"Transfer-Encoding: gzip, chunked"), Refusal.NOT_IMPLEMENTED),
        (with_fields(b"Transfer-Encoding: ,chunked"), Refusal.NOT_IMPLEMENTED),
        (with_fields(b"Transfer-Encoding: chunked;q=1"), Refusal.NOT_IMPLEMENTED),
        (with_fields(b"Transfer-Encoding: a", b"Transfer-Encoding: chunked"), Refusal.BAD_REQUEST),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", Refusal.NOT_IMPLEMENTED),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal.NOT_IMPLEMENTED),
        (b"DESCRIBE / RTSP/1.0\r\n\r\n", Refusal.NOT_IMPLEMENTED),
        (b"GET /\r\n\r\n", Refusal.VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", Refusal.VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", Refusal.VERSION_NOT_SUPPORTED),
        (with_fields(b"Expect: tea"), Refusal.EXPECTATION_FAILED),
        (with_fields(b"Content-Length: 5001"), Refusal.BODY_TOO_LARGE),
    ],
)
def test_what_is_not_done_here_is_refused(data: bytes, kind: Refusal) -> None:
    assert read(data) == [kind]


def test_requests_before_a_bad_one_are_given_on() -> None:
    *requests, refusal = read(BARE + LENGTH + b"nonsense\r\n\r\n")

    assert len(requests) == 2
    assert refusal is Refusal.BAD_REQUEST


def test_absolute_targets_and_stars_are_read() -> None:
    absolute = only(b"GET http://X/a?b HTTP/1.1\r\nHost: x\r\n\r\n")
    rootless = only(b"GET http://x?b HTTP/1.1\r\nHost: x\r\n\r\n")
    star = only(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (absolute.path, absolute.query) == ("/a", "b")
    assert (rootless.path, rootless.query) == ("/", "b")
    assert star.path == "*"


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        with_fields(b"A: " + b"b" * 2000),
        with_fields(*[b"A%d: " % i + b"b" * 100 for i in range(19)]),
        with_fields(*[b"A%d: b" % i for i in range(21)]),
        with_fields(*[b"A: b"] * 21),
        b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        chunked(b"1\r\na\r\n0\r\nT: " + b"t" * 2001 + b"\r\n\r\n"),
    ],
)
def test_headers_and_trailers_are_bounded(data: bytes, bytewise: bool) -> None:
    cuts = list(range(len(data))) if bytewise else []

    assert read(data, cuts) == [Refusal.HEADER_TOO_LARGE]


def test_a_field_without_end_is_not_collected() -> None:
    endless = b"GET / HTTP/1.1\r\nA: " + b"x" * 3000

    assert read(endless, cuts=[1000, 2000]) == [Refusal.HEADER_TOO_LARGE]


def test_an_extension_without_end_is_refused() -> None:
    endless = chunked(b"1;" + b"x" * 3000)

    assert read(endless, cuts=[1000, 2000]) == [Refusal.HEADER_TOO_LARGE]


@pytest.mark.parametrize("size", [5000, 5001])
@pytest.mark.parametrize("chunk", [1, 7, 2000])
def test_a_chunked_body_is_bounded(size: int, chunk: int) -> None:
    parts = [b"x" * min(chunk, size - at) for at in range(0, size, chunk)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    data = chunked(body)

    (whole,) = read(data)
    (cut,) = read(data, cuts=list(range(0, len(data), 11)))

    if size > LIMITS.body_bytes:
        assert whole is cut is Refusal.BODY_TOO_LARGE
    else:
        assert isinstance(whole, Request)
        assert whole == cut
        assert whole.body == b"x" * size


def test_pieces_do_not_pile_up() -> None:
    requests: list[Request] = []
    reader = RequestReader(LIMITS, requests.append)
    reader.feed(with_fields(b"Content-Length: 1000"))
    for _ in range(999):
        reader.feed(b"x")

    assert len(reader._pieces) < 100
    reader.feed(b"y")
    assert requests[0].body == b"x" * 999 + b"y"


def test_only_the_rest_of_one_body_is_fed_at_once() -> None:
    reader = RequestReader(replace(LIMITS, body_bytes=10**6), lambda _request: None)

    before = reader.stride()
    reader.feed(with_fields(b"Content-Length: 100000", body=b"x" * 10))

    assert before == SLICE_BYTES
    assert reader.stride() == 100_000 - 10


def test_the_phase_tells_how_far_a_request_has_come() -> None:
    reader = RequestReader(LIMITS, lambda _request: None)
    phases = []
    for piece in (
        b"\r\n",
        b"P",
        b"OST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n",
        b"a",
        b"b",
    ):
        reader.feed(piece)
        phases.append(reader.phase)

    assert phases == [Phase.IDLE, Phase.HEAD, Phase.BODY, Phase.BODY, Phase.IDLE]


def test_an_expectation_lasts_until_the_body_has_come() -> None:
    reader = RequestReader(LIMITS, lambda _request: None)
    reader.feed(with_fields(b"Expect: 100-Continue", b"Content-Length: 1"))

    assert reader.expects_continue
    reader.feed(b"a")
    assert not reader.expects_continue


def test_a_chunked_body_without_end_is_refused() -> None:
    endless = chunked(b"2000\r\n" + b"x" * 6000)

    assert read(endless, cuts=[3000, 6000]) == [Refusal.BODY_TOO_LARGE]


def test_one_body_does_not_count_in_the_next() -> None:
    reader = RequestReader(replace(LIMITS, body_bytes=10**6), lambda _request: None)
    reader.feed(with_fields(b"Content-Length: 3", body=b"a"))
    reader.feed(b"bc" + with_fields(b"Content-Length: 100000"))

    assert reader.stride() == 100_000


def test_a_version_is_not_remembered() -> None:
    old = b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    first, second = read(old + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.is_http_1_0
    assert not second.is_http_1_0


def test_a_client_of_http_1_0_is_not_told_to_continue() -> None:
    reader = RequestReader(LIMITS, lambda _request: None)
    reader.feed(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")

    assert not reader.expects_continue
