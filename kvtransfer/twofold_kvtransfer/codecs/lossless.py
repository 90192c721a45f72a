"""Exponents in 4 bits instead of 8, everything else as it is.

The exponents of a KV cache have under 3 bits of entropy, its mantissas nearly all of theirs. A
Huffman code would take them to 3 bits and is far too slow for the links that need help; 4 bits
take a few passes of plain arithmetic: of a chunk's numbers, those within 2^15 of the greatest
get 1 to 15, the distance from a base. 0 stands for a zero or a subnormal number, and for the few
others, which are listed. A float32 is a bfloat16 with 16 more bits of mantissa, kept apart.

float16 has 5 bits of exponent, of which this could save one; its chunks are copied.
"""

import struct

import numpy as np
import torch

from twofold_kvtransfer.codecs.errors import PayloadError

CHUNK_HEADER = struct.Struct("<IIBB6x")
"""Numbers in the chunk, how many exponents are listed, mode, base."""
MODE_COPIED, MODE_CODED = 0, 1
LISTED_BYTES = 5
WINDOW = 15
ALIGNMENT = 16


def chunk_bound(number_count: int, item_bytes: int) -> int:
    """Return the most bytes that a chunk of *number_count* numbers becomes."""
    return CHUNK_HEADER.size + number_count * item_bytes


def encode_chunk(numbers: torch.Tensor, into: torch.Tensor) -> int:
    """Write flat *numbers* to the start of *into* (uint8), and return how many bytes that is.

    ``len(numbers)`` is a multiple of 16.
    """
    if numbers.dtype == torch.float16:
        return _copy(numbers, into)
    tops = _tops(numbers)
    exponents = (tops >> 7).to(torch.uint8)
    base = max(0, int(exponents.max()) - WINDOW)
    codes = exponents.clamp(min=base).sub_(base)
    # numpy finds and compares many times faster than torch.
    listed = np.flatnonzero((codes.numpy() == 0) & (exponents.numpy() != 0)).astype(np.uint32)
    list_bytes = _aligned(len(listed) * LISTED_BYTES)
    half = len(numbers) // 2
    if list_bytes >= half:
        return _copy(numbers, into)

    into[: CHUNK_HEADER.size].numpy()[:] = np.frombuffer(
        CHUNK_HEADER.pack(len(numbers), len(listed), MODE_CODED, base), np.uint8
    )
    place = CHUNK_HEADER.size
    room = into[place : place + list_bytes].numpy()
    room[: 4 * len(listed)] = listed.view(np.uint8)
    room[4 * len(listed) : 5 * len(listed)] = exponents.numpy()[listed]
    room[5 * len(listed) :] = 0
    place += list_bytes
    packed = into[place : place + half]
    torch.bitwise_left_shift(codes[half:], 4, out=packed)
    packed.bitwise_or_(codes[:half])
    place += half
    rests = into[place : place + len(numbers)]
    rests.copy_(tops).bitwise_and_(0x7F)
    rests.bitwise_or_((tops >> 8).to(torch.uint8).bitwise_and_(0x80))
    place += len(numbers)
    if numbers.dtype == torch.float32:
        end = place + 2 * len(numbers)
        into[place:end].view(torch.int16).copy_(numbers.view(torch.int16)[::2])
        place = end
    return place


def size_of_chunk(payload: torch.Tensor, number_count: int, dtype: torch.dtype) -> int:
    """Return how many bytes at the start of *payload* are a chunk of *number_count* numbers.

    Raises:
        PayloadError: such a chunk does not begin there, or *payload* ends before it does.
    """
    if len(payload) < CHUNK_HEADER.size:
        raise PayloadError("the payload ends within a chunk's header")
    count, listed_count, mode, _ = _read_header(payload)
    size_bytes = chunk_bound(count, dtype.itemsize)
    if mode == MODE_CODED:
        size_bytes += _aligned(listed_count * LISTED_BYTES) - count // 2
    if count != number_count or mode not in _modes(dtype) or len(payload) < size_bytes:
        raise PayloadError(f"no whole chunk of {number_count} numbers where one was to be")
    return size_bytes


def decode_chunk(payload: torch.Tensor, numbers: torch.Tensor) -> None:
    """Fill flat *numbers* from *payload*, which is a chunk of as many, by :func:`size_of_chunk`.

    Raises:
        PayloadError: its list of exponents is damaged.
    """
    count, listed_count, mode, base = _read_header(payload)
    if mode == MODE_COPIED:
        numbers.view(torch.uint8).copy_(payload[CHUNK_HEADER.size :])
        return
    list_bytes, half = _aligned(listed_count * LISTED_BYTES), count // 2
    place = CHUNK_HEADER.size + list_bytes
    codes = torch.empty(count, dtype=torch.uint8)
    torch.bitwise_and(payload[place : place + half], 15, out=codes[:half])
    torch.bitwise_right_shift(payload[place : place + half], 4, out=codes[half:])
    exponents = codes.add(base).mul_(codes.clamp_(max=1))
    _put_listed(payload[CHUNK_HEADER.size : place], listed_count, exponents)
    place += half
    tops = exponents.to(torch.int16).bitwise_left_shift_(7)
    # As int8, so that the sign fills the upper byte.
    rests = payload[place : place + count].view(torch.int8).to(torch.int16)
    tops.bitwise_or_(rests.bitwise_and_(-0x7F81))
    if numbers.dtype == torch.bfloat16:
        numbers.view(torch.int16).copy_(tops)
    else:
        halves = numbers.view(torch.int16)
        halves[1::2] = tops
        halves[::2] = payload[place + count :].view(torch.int16)


def _tops(numbers: torch.Tensor) -> torch.Tensor:
    """Return sign, exponent and 7 bits of mantissa of each number, as int16."""
    halves = numbers.view(torch.int16)
    return halves if numbers.dtype == torch.bfloat16 else halves[1::2].contiguous()


def _put_listed(listed: torch.Tensor, count: int, exponents: torch.Tensor) -> None:
    places = listed[: 4 * count].numpy().view(np.uint32)
    if count and int(places.max()) >= len(exponents):
        raise PayloadError("a chunk lists an exponent that is not in it")
    exponents.numpy()[places] = listed[4 * count : 5 * count].numpy()


def _copy(numbers: torch.Tensor, into: torch.Tensor) -> int:
    end = chunk_bound(len(numbers), numbers.element_size())
    head = CHUNK_HEADER.pack(len(numbers), 0, MODE_COPIED, 0)
    into[: CHUNK_HEADER.size].numpy()[:] = np.frombuffer(head, np.uint8)
    into[CHUNK_HEADER.size : end].copy_(numbers.view(torch.uint8))
    return end


def _read_header(payload: torch.Tensor) -> tuple[int, int, int, int]:
    fields = CHUNK_HEADER.unpack(payload[: CHUNK_HEADER.size].numpy().tobytes())
    return fields[0], fields[1], fields[2], fields[3]


def _modes(dtype: torch.dtype) -> tuple[int, ...]:
    return (MODE_COPIED,) if dtype == torch.float16 else (MODE_COPIED, MODE_CODED)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT
