"""The head of a payload: what is in it, so that nobody decodes it as something else."""

import struct
import zlib
from dataclasses import dataclass

from twofold_kvtransfer.codecs.errors import PayloadError, ShapeError
from twofold_kvtransfer.codecs.names import WIRE_ORDER, CodecName
from twofold_kvtransfer.codecs.shape import Dtype, KvShape, Packing

HEADER_BYTES = 64
"""A cache line, so that what follows is aligned for every type."""
VERSION = 1

_MAGIC = b"2FKV"
_FIELDS = struct.Struct("<4sBBBBIIIIIQ")
_CHECKSUM = struct.Struct("<I")
_UNUSED = bytes(HEADER_BYTES - _FIELDS.size - _CHECKSUM.size)

# The place of each is its number on the wire: add at the end only.
_DTYPES: tuple[Dtype, ...] = ("bfloat16", "float16", "float32")
_PACKINGS = (Packing.TOKENS, Packing.CPU, Packing.CPU_AMX)


@dataclass(frozen=True, slots=True)
class Header:
    codec: CodecName
    shape: KvShape
    block_count: int
    body_bytes: int
    """Of what follows the header."""


def write_header(header: Header) -> bytes:
    """Return the HEADER_BYTES, the last four of which are the CRC-32 of the others."""
    shape = header.shape
    fields = _FIELDS.pack(
        _MAGIC,
        VERSION,
        WIRE_ORDER.index(header.codec),
        _DTYPES.index(shape.dtype),
        _PACKINGS.index(shape.packing),
        shape.regions,
        header.block_count,
        shape.heads,
        shape.block_tokens,
        shape.head_dim,
        header.body_bytes,
    )
    checked = fields + _UNUSED
    return checked + _CHECKSUM.pack(zlib.crc32(checked))


def read_header(payload: bytes) -> Header:
    """Read the header at the start of *payload*, of which the rest is not looked at.

    Raises:
        PayloadError: it is cut off, damaged, or of another version.
    """
    checked, checksum = payload[: -_CHECKSUM.size], payload[-_CHECKSUM.size :]
    if len(payload) != HEADER_BYTES:
        raise PayloadError(f"a header of {len(payload)} bytes, not {HEADER_BYTES}")
    magic, version, codec, dtype, packing, regions, blocks, heads, tokens, channels, body = (
        _FIELDS.unpack_from(checked)
    )
    if magic != _MAGIC:
        raise PayloadError("these bytes are no coded KV blocks")
    if version != VERSION:
        raise PayloadError(f"payload of version {version}, this side reads {VERSION}")
    if _CHECKSUM.unpack(checksum) != (zlib.crc32(checked),):
        raise PayloadError("the payload's header is damaged")
    try:
        shape = KvShape(
            regions=regions,
            heads=heads,
            block_tokens=tokens,
            head_dim=channels,
            dtype=_DTYPES[dtype],
            packing=_PACKINGS[packing],
        )
        return Header(WIRE_ORDER[codec], shape, blocks, body)
    except (IndexError, ShapeError) as error:
        raise PayloadError("the payload's header says what cannot be") from error
