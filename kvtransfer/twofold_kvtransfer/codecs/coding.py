"""Blocks to payloads and back, on the CPU.

A payload is a header and a body, in one tensor of bytes: memory of a transport's own, if the
caller gives it.
"""

from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Protocol, Self, TypeVar

import numpy as np
import torch

from twofold_kvtransfer.codecs import exact_bodies, lossy_bodies
from twofold_kvtransfer.codecs.errors import PayloadError, ShapeError
from twofold_kvtransfer.codecs.header import HEADER_BYTES, Header, read_header, write_header
from twofold_kvtransfer.codecs.names import WIRE_ORDER, CodecName
from twofold_kvtransfer.codecs.regions import Regions, check
from twofold_kvtransfer.codecs.shape import KvShape
from twofold_kvtransfer.codecs.threads import coding_threads

T = TypeVar("T")

ALIGNMENT = 8
"""Of a payload's first byte, so that each array in it is aligned for its type."""


class Run(Protocol):
    """Does jobs in any order, and returns what each returned, in theirs."""

    def __call__(self, jobs: Iterable[Callable[[], T]], /) -> list[T]: ...


def in_turn(jobs: Iterable[Callable[[], T]], /) -> list[T]:
    """Do *jobs* in this thread."""
    return [job() for job in jobs]


def payload_bytes(codec: CodecName, shape: KvShape, block_count: int) -> int:
    """Return the size of a payload; for ``lossless`` the most that it may be."""
    if codec == "none":
        return HEADER_BYTES + shape.size_bytes(block_count)
    if codec == "lossless":
        return HEADER_BYTES + exact_bodies.bound(shape, block_count)
    return HEADER_BYTES + shape.regions * lossy_bodies.region_bytes(codec, shape, block_count)


def checked_header(payload: torch.Tensor, shape: KvShape, block_count: int) -> Header:
    """Return the header of *payload*, which is of *block_count* blocks of *shape*.

    Raises:
        PayloadError: it is not, or it is cut off or damaged.
        ShapeError: *payload* is not aligned.
    """
    if payload.data_ptr() % ALIGNMENT:
        raise ShapeError(f"the payload is not aligned to {ALIGNMENT} bytes")
    header = read_header(payload[:HEADER_BYTES].cpu().numpy().tobytes())
    if (header.shape, header.block_count) != (shape, block_count):
        raise PayloadError(f"{header.block_count} blocks of {header.shape}, not those asked for")
    if len(payload) - HEADER_BYTES != header.body_bytes:
        raise PayloadError(
            f"{len(payload) - HEADER_BYTES} bytes after the header, which says {header.body_bytes}"
        )
    exact = payload_bytes(header.codec, shape, block_count)
    if header.codec != "lossless" and len(payload) != exact:
        raise PayloadError(f"{len(payload)} bytes of {header.codec}, not {exact}")
    return header


def encode_blocks(
    codec: CodecName,
    blocks: Regions,
    shape: KvShape,
    into: torch.Tensor | None = None,
    run: Run = in_turn,
) -> torch.Tensor:
    """Return the payload, uint8 and flat; at the start of *into* if that is given.

    A position that holds no token yet is coded like any other: a group that has one takes
    its range from what lies there.

    Raises:
        ShapeError: *blocks* are not of *shape*, or *into* has no room.
        CannotQuantiseError: a lossy codec, and the numbers are not all finite.
    """
    block_count = check(blocks, shape)
    bound = payload_bytes(codec, shape, block_count)
    payload = torch.empty(bound, dtype=torch.uint8) if into is None else into[:bound]
    if len(payload) < bound or payload.data_ptr() % ALIGNMENT:
        raise ShapeError(f"no aligned room for {bound} bytes")
    body = payload[HEADER_BYTES:]
    body_bytes = len(body)
    if codec == "none":
        run(exact_bodies.copying(blocks, body))
    elif codec == "lossless":
        ends = run(exact_bodies.encoding(blocks, shape, body))
        body_bytes = exact_bodies.close_ranks(blocks, shape, body, ends)
    else:
        run(lossy_bodies.encoding(codec, blocks, shape, body))
    header = write_header(Header(codec, shape, block_count, body_bytes))
    payload[:HEADER_BYTES].numpy()[:] = np.frombuffer(header, np.uint8)
    return payload[: HEADER_BYTES + body_bytes]


def decode_blocks(
    payload: torch.Tensor,
    shape: KvShape,
    out: Regions,
    run: Run = in_turn,
    *,
    made_by: Collection[CodecName] = WIRE_ORDER,
) -> None:
    """Fill *out* with the blocks of *payload*: uint8, flat, aligned to 8 bytes.

    Raises:
        PayloadError: *payload* is cut off, damaged where that shows, not of such blocks, or of a
            codec that is not in *made_by*. *out* may then be filled in part.
        ShapeError: *out* is not of *shape*, or *payload* not aligned.
    """
    header = checked_header(payload, shape, check(out, shape))
    if header.codec not in made_by:
        raise PayloadError(f"a payload of {header.codec}, not of {' or '.join(made_by)}")
    body = payload[HEADER_BYTES:]
    if header.codec == "none":
        run(exact_bodies.copying_back(out, body))
    elif header.codec == "lossless":
        run(exact_bodies.decoding(out, shape, body))
    else:
        run(lossy_bodies.decoding(header.codec, out, shape, body))


class Coder:
    """Encodes and decodes in threads of its own, which end with it.

    Each works alone on chunks that fit into a core's cache.
    """

    def __init__(self, thread_count: int = 1) -> None:
        self._pool = coding_threads(thread_count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._pool.shutdown()

    def encode(
        self, codec: CodecName, blocks: Regions, shape: KvShape, into: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Do as :func:`encode_blocks`."""
        return encode_blocks(codec, blocks, shape, into, self._run)

    def decode(self, payload: torch.Tensor, shape: KvShape, out: Regions) -> None:
        """Do as :func:`decode_blocks`."""
        decode_blocks(payload, shape, out, self._run)

    def _run(self, jobs: Iterable[Callable[[], T]], /) -> list[T]:
        # All are awaited before the first error is raised: they write into the caller's memory.
        futures = [self._pool.submit(job) for job in jobs]
        for future in futures:
            future.exception()
        return [future.result() for future in futures]
