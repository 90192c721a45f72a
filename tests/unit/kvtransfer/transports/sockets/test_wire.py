from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.wire import (
    ANSWER_BYTES,
    HELLO_BYTES,
    KEY_BYTES,
    MAX_BLOCKS,
    MAX_RUN_CELLS,
    MAX_TEXT_BYTES,
    REQUEST_BYTES,
    Answer,
    Direction,
    Hello,
    Request,
    Verdict,
    decode_answer,
    decode_blocks,
    decode_hello,
    decode_request,
    encode_request,
)

NUMBERS = st.integers(0, 2**64 - 1)

READ = Request(
    direction=Direction.READ,
    checksum=True,
    run_cells=1,
    block_count=2,
    part_offset=0,
    part_bytes=1,
    first=0,
    count=1,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Request, list[int]]:
    blocks = draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
    request = Request(
        direction=draw(st.sampled_from(Direction)),
        checksum=draw(st.booleans()),
        run_cells=draw(st.integers(1, MAX_RUN_CELLS)),
        block_count=len(blocks),
        part_offset=draw(NUMBERS),
        part_bytes=draw(NUMBERS),
        first=draw(NUMBERS),
        count=draw(NUMBERS),
    )
    return request, blocks


@given(requests())
def test_a_request_is_read_as_it_was_sent(sent: tuple[Request, list[int]]) -> None:
    request, blocks = sent
    head, ids, digest = encode_request(request, blocks)

    assert len(head) == REQUEST_BYTES
    assert len(ids) == 4 * len(blocks)
    assert decode_request(head) == (request, digest)
    assert decode_blocks(head, ids) == blocks


@given(requests(), st.data())
def test_a_request_with_any_bit_flipped_is_damaged(
    sent: tuple[Request, list[int]], data: st.DataObject
) -> None:
    head, ids, _ = encode_request(*sent)
    everything = bytearray(head + ids)
    bit = data.draw(st.integers(0, 8 * len(everything) - 1))
    everything[bit // 8] ^= 1 << bit % 8

    with pytest.raises(TransferError) as raised:
        _decode(bytes(everything))
    assert raised.value.failure is Failure.CHECKSUM


@pytest.mark.parametrize(
    ("run_cells", "block_count"),
    [(0, 1), (MAX_RUN_CELLS + 1, 1), (1, 0), (1, MAX_BLOCKS + 1)],
)
def test_a_request_beyond_the_limits_makes_no_sense(run_cells: int, block_count: int) -> None:
    request = Request(Direction.READ, True, run_cells, block_count, 0, 1, 0, 1)

    with pytest.raises(TransferError) as raised:
        decode_request(encode_request(request, [0])[0])
    assert raised.value.failure is Failure.PROTOCOL


def test_two_requests_have_different_seeds() -> None:
    seeds = {
        encode_request(Request(Direction.READ, True, 1, 1, 0, 1, 0, 1), [block])[2]
        for block in range(100)
    }

    assert len(seeds) == 100


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_a_greeting_is_read_as_it_was_sent(key: bytes) -> None:
    assert decode_hello(Hello(key).encode()) == Hello(key)


@given(st.binary(min_size=HELLO_BYTES, max_size=HELLO_BYTES))
def test_what_is_no_greeting_makes_no_sense(data: bytes) -> None:
    with pytest.raises(TransferError) as raised:
        decode_hello(data)
    assert raised.value.failure is Failure.PROTOCOL


def test_a_greeting_of_another_version_makes_no_sense() -> None:
    greeting = bytearray(Hello(b"k" * KEY_BYTES).encode())
    greeting[7] += 1

    with pytest.raises(TransferError):
        decode_hello(bytes(greeting))


@given(st.sampled_from(Verdict), st.text(max_size=60))
def test_an_answer_is_read_as_it_was_sent(verdict: Verdict, text: str) -> None:
    data = Answer(verdict, text).encode()

    assert len(data) == ANSWER_BYTES
    assert decode_answer(data) == Answer(verdict, text)


def test_a_long_answer_is_cut() -> None:
    assert decode_answer(Answer(Verdict.OK, "a" * 1000).encode()).text == "a" * MAX_TEXT_BYTES


@pytest.mark.parametrize("data", [bytes(ANSWER_BYTES), b"\x01\xff\xff" + bytes(ANSWER_BYTES - 3)])
def test_what_is_no_answer_makes_no_sense(data: bytes) -> None:
    with pytest.raises(TransferError) as raised:
        decode_answer(data)
    assert raised.value.failure is Failure.PROTOCOL


def _decode(data: bytes) -> None:
    decode_request(data[:REQUEST_BYTES])
    decode_blocks(data[:REQUEST_BYTES], data[REQUEST_BYTES:])


@pytest.mark.parametrize("codec", ["none", "lossless", "int8", "fp8", "int4"])
def test_a_read_names_its_codec(codec: CodecName) -> None:
    request = replace(READ, codec=codec)

    head, _, digest = encode_request(request, [1, 2])

    assert decode_request(head) == (request, digest)


def test_a_write_with_a_codec_makes_no_sense() -> None:
    head, _, _ = encode_request(replace(READ, direction=Direction.WRITE, codec="int8"), [1, 2])

    with pytest.raises(TransferError) as raised:
        decode_request(head)
    assert raised.value.failure is Failure.PROTOCOL
