"""The transports that the contract suite runs on; a new one is one more entry of ``FACTORIES``."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import msgspec
from tests.integration.transports.wires import Wire

from twofold_kvtransfer.codecs import KvShape, Packing, Quality
from twofold_kvtransfer.codecs.cell_coding import CellCoder
from twofold_kvtransfer.transports import Transport
from twofold_kvtransfer.transports.nixl import NixlTransport
from twofold_kvtransfer.transports.sockets.wire import (
    ANSWER_BYTES,
)
from twofold_kvtransfer.transports.tcp import Compression, TcpSettings, TcpTransport
from twofold_kvtransfer.transports.tcp.description import (
    decode_description,
    encode_description,
)
from twofold_kvtransfer.transports.tcp.wire import CHECKSUM_BYTES
from twofold_kvtransfer.transports.testing import (
    Fault,
    HostBlocks,
    MemoryNetwork,
    MemoryTransport,
)

WRITABLE = TcpSettings(serves_writes=True)
Make = Callable[[HostBlocks], Transport]


@dataclass(frozen=True, slots=True)
class Kind:
    """A transport, and what the suite has to know of it."""

    new_make: Callable[[], Make]
    """Returns what makes transports that reach each other. In another process it is called for
    itself."""
    reaches_processes: bool = True
    is_one_sided: bool = False
    """Blocks are read from a process that stands still; else such a transfer waits for it."""
    example_count: int = 50
    """Of random geometries; fewer where a transport is slow to make."""
    flipping: Callable[[Transport, bytes], AbstractContextManager[bytes]] | None = None
    """Given the transport that reads and the description of its peer, yield a description with
    which the first transfer receives a wrong bit. None where integrity is not checked."""


@contextlib.contextmanager
def _flip_in_memory(transport: Transport, description: bytes) -> Iterator[bytes]:
    cast("MemoryTransport", transport).inject(Fault.FLIP)
    yield description


@contextlib.contextmanager
def _flip_on_the_wire(transport: Transport, description: bytes) -> Iterator[bytes]:
    first_cell = 2 * ANSWER_BYTES + CHECKSUM_BYTES
    with rewired(description) as (wire, through):
        wire.flip_towards_client(first_cell + 5)
        yield through


@contextlib.contextmanager
def rewired(description: bytes) -> Iterator[tuple[Wire, bytes]]:
    """Yield a wire to a TCP transport, and the description that leads through it."""
    peer = decode_description(description)
    with contextlib.closing(Wire(peer.host, peer.port)) as wire:
        through = msgspec.structs.replace(peer, host=wire.host, port=wire.port)
        yield wire, encode_description(through)


def _with_lossless(blocks: HostBlocks) -> TcpTransport:
    """Make a transport that codes what it reads, at first, if its blocks can be of a cache."""
    heads, rest = divmod(blocks.map.block_bytes, 2 * 8 * 8 * 2)
    if rest or blocks.map.stride_bytes % 2:
        return TcpTransport(blocks.map, WRITABLE)
    shape = KvShape(
        regions=blocks.map.region_count,
        heads=heads,
        block_tokens=8,
        head_dim=8,
        dtype="bfloat16",
        packing=Packing.CPU,
    )
    compression = Compression(
        coder=CellCoder(blocks.map, shape),
        quality=Quality.EXACT,
        link_bytes_per_second=1e3,
        least_bytes=1,
    )
    return TcpTransport(blocks.map, WRITABLE, compression=compression)


def _over_gloo(blocks: HostBlocks) -> Transport:
    # PyTorch takes seconds to import, and the peers of other kinds do without.
    from tests.integration.transports.gloo_ends import SteeredGloo

    from twofold_kvtransfer.transports.two_sided import TwoSidedSettings, TwoSidedTransport

    return TwoSidedTransport(blocks.map, SteeredGloo(), TwoSidedSettings(serves_writes=True))


@contextlib.contextmanager
def _flip_what_comes_over_gloo(transport: Transport, description: bytes) -> Iterator[bytes]:
    from tests.integration.transports.gloo_ends import SteeredGloo

    SteeredGloo.of(transport).flips_left = 1
    yield description


FACTORIES: dict[str, Kind] = {
    "memory": Kind(
        new_make=lambda: MemoryNetwork().join,
        reaches_processes=False,
        flipping=_flip_in_memory,
    ),
    "tcp": Kind(
        new_make=lambda: lambda blocks: TcpTransport(blocks.map, WRITABLE),
        flipping=_flip_on_the_wire,
    ),
    "gloo": Kind(
        new_make=lambda: _over_gloo,
        example_count=10,
        flipping=_flip_what_comes_over_gloo,
    ),
    "tcp-lossless": Kind(new_make=lambda: _with_lossless, flipping=_flip_on_the_wire),
    "nixl": Kind(
        new_make=lambda: lambda blocks: NixlTransport(blocks.map),
        is_one_sided=True,
        example_count=10,
    ),
}
