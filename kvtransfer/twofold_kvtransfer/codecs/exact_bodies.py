"""The bodies of ``none`` and ``lossless`` payloads, as jobs that may run in any order."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from twofold_kvtransfer.codecs import lossless
from twofold_kvtransfer.codecs.errors import PayloadError
from twofold_kvtransfer.codecs.regions import Regions, chunks
from twofold_kvtransfer.codecs.shape import KvShape


def bound(shape: KvShape, block_count: int) -> int:
    """Return the most bytes that a lossless body takes."""
    chunk_count = shape.regions * len(chunks(shape, block_count))
    return chunk_count * lossless.CHUNK_HEADER.size + shape.size_bytes(block_count)


def copying(blocks: Regions, body: torch.Tensor) -> Iterator[Callable[[], object]]:
    for region, part in _parts(blocks, body):
        yield partial(part.copy_, region)


def copying_back(out: Regions, body: torch.Tensor) -> Iterator[Callable[[], object]]:
    for region, part in _parts(out, body):
        yield partial(region.copy_, part)


def encoding(blocks: Regions, shape: KvShape, body: torch.Tensor) -> Iterator[Callable[[], int]]:
    """Each job encodes a chunk to where it fits at its largest, and returns its size."""
    for chunk, at in _chunks(blocks, shape):
        yield partial(_encode_chunk, chunk, body[at:])


def close_ranks(blocks: Regions, shape: KvShape, body: torch.Tensor, sizes: Sequence[int]) -> int:
    """Move the chunks together, and return what they take."""
    # numpy copes with a source and a target that overlap.
    data, end = body.numpy(), 0
    for (_, at), size in zip(_chunks(blocks, shape), sizes, strict=True):
        data[end : end + size] = data[at : at + size]
        end += size
    return end


def decoding(out: Regions, shape: KvShape, body: torch.Tensor) -> list[Callable[[], None]]:
    """Raises:
    PayloadError: *body* is not of as many chunks as *out*.
    """
    jobs: list[Callable[[], None]] = []
    for chunk, _ in _chunks(out, shape):
        size = lossless.size_of_chunk(body, chunk.numel(), chunk.dtype)
        jobs.append(partial(_decode_chunk, body[:size], chunk))
        body = body[size:]
    if len(body):
        raise PayloadError(f"{len(body)} bytes are left over")
    return jobs


def _parts(regions: Regions, body: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    at = 0
    for region in regions:
        end = at + region.numel() * region.element_size()
        yield region, body[at:end].view(region.dtype).view(region.shape)
        at = end


def _chunks(regions: Regions, shape: KvShape) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield each chunk, with where its code may begin."""
    at = 0
    for region in regions:
        for chunk in chunks(shape, len(region)):
            yield region[chunk], at
            at += lossless.chunk_bound(region[chunk].numel(), shape.item_bytes)


def _encode_chunk(chunk: torch.Tensor, into: torch.Tensor) -> int:
    return lossless.encode_chunk(chunk.reshape(-1), into)


def _decode_chunk(payload: torch.Tensor, chunk: torch.Tensor) -> None:
    if chunk.is_contiguous():
        lossless.decode_chunk(payload, chunk.view(-1))
        return
    numbers = torch.empty(chunk.shape, dtype=chunk.dtype)
    lossless.decode_chunk(payload, numbers.view(-1))
    chunk.copy_(numbers)
