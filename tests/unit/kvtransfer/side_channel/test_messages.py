import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.digesting import BLOCKS_PER_DIGEST
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.side_channel.frames import read_frame
from twofold_kvtransfer.side_channel.messages import (
    MAX_BLOCK_NAME_BYTES,
    MAX_BLOCKS_PER_MESSAGE,
    MAX_QUESTION_BYTES,
    Answer,
    Claim,
    Claimed,
    Digest,
    Digested,
    Done,
    GiveBack,
    Hello,
    Look,
    ProtocolError,
    Question,
    Recheck,
    Rechecked,
    Refused,
    Seen,
    Unanswered,
    Welcome,
    decode_answer,
    decode_question,
    frame,
)
from twofold_kvtransfer.sources import MAX_NAME_LENGTH

BLOCKS = BlockMap(addresses=(4096, 8192), block_count=4, block_bytes=64, stride_bytes=64)
HELLO = Hello(compatibility="c", transport="tcp", tensor_parallel=2, reader=Reader("d", "1", 1))
WELCOME = Welcome(worker="p", incarnation="1", blocks=BLOCKS, description=b"\0there")

names = st.lists(st.text(max_size=20), max_size=5)
numbers = st.lists(st.integers(0, 2**64 - 1), max_size=5)
seconds = st.lists(st.none() | st.floats(allow_nan=False), max_size=5)


def stream(data: bytes) -> asyncio.StreamReader:
    """Return what reads *data*, and then the end."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@given(
    st.builds(Claim, names)
    | st.builds(GiveBack, names)
    | st.builds(Digest, st.integers(0, 2**63), st.text(max_size=20), numbers)
    | st.builds(Look, st.integers(0, 2**63), st.lists(st.binary(max_size=40), max_size=5))
    | st.builds(
        Recheck,
        st.integers(0, 2**63),
        st.lists(st.binary(max_size=40), max_size=5),
        numbers,
        numbers,
        st.booleans(),
    )
    | st.just(HELLO)
)
def test_a_question_arrives_as_it_was_asked(question: Question) -> None:
    assert decode_question(frame(question)[4:]) == question


@given(
    st.builds(Claimed, seconds)
    | st.builds(Refused, st.text())
    | st.builds(Digested, st.integers(0, 2**63), numbers)
    | st.builds(Seen, st.integers(0, 2**63), numbers, numbers)
    | st.builds(Rechecked, st.integers(0, 2**63), st.booleans(), numbers)
    | st.builds(Unanswered, st.integers(0, 2**63), st.text())
    | st.sampled_from([Done()])
)
def test_an_answer_arrives_as_it_was_given(answer: Answer) -> None:
    assert decode_answer(frame(answer)[4:]) == answer


def test_a_welcome_carries_the_map_of_blocks() -> None:
    assert decode_answer(frame(WELCOME)[4:]) == WELCOME


@given(st.binary(max_size=200))
def test_garbage_is_no_message(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_question(garbage)
    with pytest.raises(ProtocolError):
        decode_answer(garbage)


def _packed(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(_packed({"type": "shutdown"}), id="another type"),
        pytest.param(_packed({"type": "claim"}), id="a field missing"),
        pytest.param(_packed({"type": "claim", "request_ids": "r"}), id="a field of another type"),
        pytest.param(_packed(Claimed([1.0])), id="an answer"),
        pytest.param(_packed(Claim(["r"]))[:-1], id="cut off"),
        pytest.param(_packed(Claim(["r"])) + b"\0", id="with something after it"),
        pytest.param(
            b"\x82\xa4type\xa5claim\xabrequest_ids\x91\xa2\xff\xfe", id="text that is no UTF-8"
        ),
        pytest.param(b"\x82\xa4type\xa5claim\xa1x" + b"\x91" * 10**6, id="nested without end"),
    ],
)
def test_what_is_no_question_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a question"):
        decode_question(payload)


def test_a_welcome_with_an_impossible_map_is_refused() -> None:
    message = msgspec.to_builtins(WELCOME)
    message["blocks"]["stride_bytes"] = 1

    with pytest.raises(ProtocolError, match="overlap"):
        decode_answer(_packed(message))


def test_the_longest_look_recheck_and_digest_fit_into_a_question() -> None:
    count, number = MAX_BLOCKS_PER_MESSAGE, 2**64 - 1
    block_names, numbers = [b"n" * MAX_BLOCK_NAME_BYTES] * count, [number] * count
    name = "\U0001f600" * MAX_NAME_LENGTH
    longest: list[Look | Recheck | Digest] = [
        Look(number, block_names),
        Recheck(number, block_names, numbers, numbers, True),
        Digest(number, name, numbers),
    ]

    assert all(len(frame(question)) <= MAX_QUESTION_BYTES for question in longest)


def test_blocks_in_several_messages_have_the_digests_that_they_have_in_one() -> None:
    assert MAX_BLOCKS_PER_MESSAGE % BLOCKS_PER_DIGEST == 0


async def test_frames_are_read_one_by_one_until_the_end() -> None:
    reader = stream(frame(Claim(["a"])) + frame(GiveBack(["a"])))

    assert await read_frame(reader) == frame(Claim(["a"]))[4:]
    assert await read_frame(reader) == frame(GiveBack(["a"]))[4:]
    assert await read_frame(reader) is None


@pytest.mark.parametrize("kept", range(1, len(frame(Done()))))
async def test_a_frame_that_is_cut_is_an_error(kept: int) -> None:
    with pytest.raises(ProtocolError, match="inside a frame"):
        await read_frame(stream(frame(Done())[:kept]))


async def test_a_frame_too_long_is_refused_before_it_is_read() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data((101).to_bytes(4, "big"))

    with pytest.raises(ProtocolError, match="101 bytes; at most 100"):
        await read_frame(reader, 100)


async def test_a_frame_that_does_not_end_is_given_up() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(frame(Done())[:-1])

    with pytest.raises(ProtocolError, match="does not end in 0 s"):
        await read_frame(reader, within_seconds=0)


async def test_a_frame_that_has_not_begun_is_waited_for() -> None:
    reader = asyncio.StreamReader()
    reading = asyncio.create_task(read_frame(reader, within_seconds=0))
    for _ in range(3):
        await asyncio.sleep(0)
    reader.feed_data(frame(Done()))

    assert await reading == frame(Done())[4:]
