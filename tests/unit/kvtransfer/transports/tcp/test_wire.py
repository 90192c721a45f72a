import pytest

from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.wire import (
    CHUNK_HEAD_BYTES,
    ChunkHead,
    decode_chunk_head,
)


def test_the_head_of_a_chunk_is_read_as_it_was_written() -> None:
    head = ChunkHead(checksum=2**64 - 1, size_bytes=7, encode_nanoseconds=9)

    assert decode_chunk_head(head.encode(3), 3) == head


@pytest.mark.parametrize("place", range(CHUNK_HEAD_BYTES))
def test_damage_to_the_head_of_a_chunk_is_found(place: int) -> None:
    data = bytearray(ChunkHead(1, 2, 3).encode(4))
    data[place] ^= 1

    with pytest.raises(TransferError) as raised:
        decode_chunk_head(bytes(data), 4)
    assert raised.value.failure is Failure.CHECKSUM


def test_the_head_of_another_chunk_is_damage() -> None:
    with pytest.raises(TransferError):
        decode_chunk_head(ChunkHead(1, 2, 3).encode(4), 5)
