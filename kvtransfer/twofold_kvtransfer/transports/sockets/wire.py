"""What is said before anything moves, byte by byte; all numbers little-endian.

1. The one who connects says :class:`Hello`, and is answered by an :class:`Answer`.
2. It sends a :class:`Request` and the numbers of the blocks there, as often as it likes, and is
   answered to each. What follows an answer that is OK is up to the transport.
"""

import enum
import struct
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import xxhash

from twofold_kvtransfer.blocks import BlockIds
from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.codecs.names import WIRE_ORDER
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError

MAGIC = b"2FOLDKV\x02"
"""Ends in the version."""
KEY_BYTES = 16
MAX_TEXT_BYTES = 512
MAX_BLOCKS = 1 << 20
"""In one request."""
MAX_RUN_CELLS = 1000
"""With the checksum, fewer buffers than Linux takes in one call (IOV_MAX, 1024)."""

_HELLO = struct.Struct(f"<8s{KEY_BYTES}s")
_ANSWER = struct.Struct(f"<B H {MAX_TEXT_BYTES}s")
_REQUEST = struct.Struct("<B B B H I Q Q Q Q Q")
"""Ends in the digest of the block numbers."""
_NUMBER = struct.Struct("<Q")

HELLO_BYTES = _HELLO.size
ANSWER_BYTES = _ANSWER.size
REQUEST_BYTES = _REQUEST.size + _NUMBER.size


class Verdict(enum.IntEnum):
    OK = 1
    REFUSED = 2
    CHECKSUM = 3
    CODED = 4


class Direction(enum.IntEnum):
    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Hello:
    """Names the incarnation that it is meant for; who does not know its key is a stranger."""

    key: bytes

    def encode(self) -> bytes:
        return _HELLO.pack(MAGIC, self.key)


def decode_hello(data: bytes) -> Hello:
    magic, key = _HELLO.unpack(data)
    if magic != MAGIC:
        _no_sense("a greeting of another protocol or version")
    return Hello(key)


@dataclass(frozen=True, slots=True)
class Answer:
    verdict: Verdict
    text: str = ""

    def encode(self) -> bytes:
        text = self.text.encode()[:MAX_TEXT_BYTES]
        return _ANSWER.pack(self.verdict, len(text), text)


def decode_answer(data: bytes) -> Answer:
    verdict, size, text = _ANSWER.unpack(data)
    if verdict not in Verdict.__members__.values() or size > MAX_TEXT_BYTES:
        _no_sense("an answer without a verdict")
    return Answer(Verdict(verdict), text[:size].decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Request:
    """Cells *first* to *first + count* of the named blocks; see :mod:`cells` for their order."""

    direction: Direction
    checksum: bool
    run_cells: int
    block_count: int
    part_offset: int
    """Of what is moved, from the start of a block in its region; bytes."""
    part_bytes: int
    first: int
    count: int
    codec: CodecName = "none"
    """For a read: what the peer is to code with, chunks of at most ``run_cells``."""

    @property
    def cells(self) -> range:
        return range(self.first, self.first + self.count)


def encode_request(request: Request, blocks: BlockIds) -> tuple[bytes, bytes, int]:
    """Return head, block numbers and the digest of all, which is the seed of the checksums."""
    ids = np.asarray(blocks, dtype="<u4").tobytes()
    head = _REQUEST.pack(
        request.direction,
        request.checksum,
        WIRE_ORDER.index(request.codec),
        request.run_cells,
        request.block_count,
        request.part_offset,
        request.part_bytes,
        request.first,
        request.count,
        xxhash.xxh3_64_intdigest(ids),
    )
    digest = xxhash.xxh3_64_intdigest(head)
    return head + _NUMBER.pack(digest), ids, digest


def decode_request(head: bytes) -> tuple[Request, int]:
    """Return the request and the digest of all.

    Raises:
        TransferError: it is not what was sent, or beyond the limits.
    """
    digest = xxhash.xxh3_64_intdigest(head[: _REQUEST.size])
    if _NUMBER.unpack_from(head, _REQUEST.size)[0] != digest:
        _damaged()
    direction, checksum, codec, run_cells, block_count, offset, length, first, count, _ = (
        _REQUEST.unpack_from(head)
    )
    known = direction in Direction.__members__.values() and codec < len(WIRE_ORDER)
    if not known or checksum > 1 or (codec and direction != Direction.READ):
        _no_sense("a request of no kind")
    if not (1 <= run_cells <= MAX_RUN_CELLS and 1 <= block_count <= MAX_BLOCKS):
        _no_sense(f"a request of {block_count} blocks in runs of {run_cells}")
    request = Request(
        direction=Direction(direction),
        checksum=bool(checksum),
        run_cells=run_cells,
        block_count=block_count,
        part_offset=offset,
        part_bytes=length,
        first=first,
        count=count,
        codec=WIRE_ORDER[codec],
    )
    return request, digest


def decode_blocks(head: bytes, ids: bytes) -> list[int]:
    """Return the block numbers that follow *head*.

    Raises:
        TransferError: they are not those that were sent.
    """
    if _REQUEST.unpack_from(head)[-1] != xxhash.xxh3_64_intdigest(ids):
        _damaged()
    numbers: list[int] = np.frombuffer(ids, dtype="<u4").tolist()
    return numbers


def _damaged() -> NoReturn:
    raise TransferError(Failure.CHECKSUM, "the request is not the one that was sent")


def _no_sense(text: str) -> NoReturn:
    raise TransferError(Failure.PROTOCOL, text)
