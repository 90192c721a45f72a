"""What follows a request on a stream, byte by byte; all numbers little-endian.

1. For a read, an answer comes back and, if that is OK, the cells in runs; for a write, the answer
   comes, the cells are sent in runs, and a second answer tells how it went.
2. A run is a checksum and then the bytes of its cells, whose number both sides know.
3. For a read with a codec the answer is CODED, and chunks (:mod:`chunks`) come in place of runs: a
   :class:`ChunkHead`, and the payload. Or it is OK: the peer cannot or will not code now, and the
   cells come as they lie, in runs.
"""

import struct
from dataclasses import dataclass

import xxhash

from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError

_CHUNK = struct.Struct("<Q Q Q")
_NUMBER = struct.Struct("<Q")

CHECKSUM_BYTES = _NUMBER.size
CHUNK_HEAD_BYTES = _CHUNK.size + _NUMBER.size


@dataclass(frozen=True, slots=True)
class ChunkHead:
    checksum: int
    """Of the payload; 0 if none are wanted."""
    size_bytes: int
    """Of the payload."""
    encode_nanoseconds: int
    """That the sender has been encoding for this request until now."""

    def encode(self, seed: int) -> bytes:
        fields = _CHUNK.pack(self.checksum, self.size_bytes, self.encode_nanoseconds)
        return fields + _NUMBER.pack(xxhash.xxh3_64_intdigest(fields, seed))


def decode_chunk_head(data: bytes | memoryview, seed: int) -> ChunkHead:
    """Raises:
    TransferError: it is not what was sent, so that nobody knows how much follows.
    """
    fields = bytes(data[: _CHUNK.size])
    if _NUMBER.unpack_from(data, _CHUNK.size)[0] != xxhash.xxh3_64_intdigest(fields, seed):
        raise TransferError(Failure.CHECKSUM, "what arrived is not what was sent")
    return ChunkHead(*_CHUNK.unpack(fields))


def encode_checksum(checksum: int) -> bytes:
    return _NUMBER.pack(checksum)


def decode_checksum(data: bytes | memoryview) -> int:
    number: int = _NUMBER.unpack(data)[0]
    return number
