"""Where the blocks of an engine's KV cache lie in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from twofold_cluster.errors import TwofoldError

BlockIds = Sequence[int]
Addresses = npt.NDArray[np.uint64]


MAX_CELLS = 2**31 - 1
"""Blocks in all regions together: transports number them in 32 bits, NIXL with a sign."""


class InvalidBlocksError(TwofoldError):
    """Blocks that are not there, or that two sides do not describe alike."""


class BlockMap(msgspec.Struct, frozen=True, kw_only=True):
    """Block *i* of region *r* is the ``block_bytes`` at ``addresses[r] + i * stride_bytes``.

    A region is one layer's cache, K and V together. All regions have the same geometry, and a
    block of the service is the block of that number in each of them, in the order of the layers.
    """

    addresses: tuple[int, ...]
    """Of the first block, per region."""
    block_count: int
    block_bytes: int
    """What is moved of a block in a region: for some of its heads, a part of what lies there."""
    stride_bytes: int
    """From one block of a region to the next; at least ``block_bytes``."""
    memory: Literal["dram", "vram"] = "dram"
    device: int = 0
    """The accelerator's number for ``vram``."""

    def __post_init__(self) -> None:
        if not self.addresses or self.block_count < 1 or self.block_bytes < 1:
            raise InvalidBlocksError(f"no blocks in {self}")
        if self.stride_bytes < self.block_bytes:
            raise InvalidBlocksError(
                f"blocks of {self.block_bytes} bytes overlap at a stride of {self.stride_bytes}"
            )
        if (
            min(self.addresses) < 0
            or max(self.addresses) + self.region_bytes > 2**64
            or self.block_count * self.region_count > MAX_CELLS
            or not 0 <= self.device < 2**31
        ):
            raise InvalidBlocksError(
                f"no memory has {self.block_count} blocks of device {self.device} in each of"
                f" {self.region_count} regions from {min(self.addresses)} to"
                f" {max(self.addresses)} at a stride of {self.stride_bytes}"
            )

    @property
    def region_count(self) -> int:
        return len(self.addresses)

    @property
    def bytes_per_block(self) -> int:
        """Over all regions."""
        return self.block_bytes * self.region_count

    @property
    def region_bytes(self) -> int:
        """From the first byte of a region's first block to the last of its last."""
        return (self.block_count - 1) * self.stride_bytes + self.block_bytes

    def part(self, index: int, count: int) -> "BlockMap":
        """Return the *index*-th of *count* equal parts of each block: that of some of its heads.

        Raises:
            InvalidBlocksError: blocks do not divide into *count*.
        """
        part_bytes, rest = divmod(self.block_bytes, count)
        if rest or not 0 <= index < count:
            raise InvalidBlocksError(
                f"no part {index} of {count} in blocks of {self.block_bytes} bytes"
            )
        return msgspec.structs.replace(
            self,
            addresses=tuple(address + index * part_bytes for address in self.addresses),
            block_bytes=part_bytes,
        )

    def check(self, blocks: BlockIds) -> None:
        """Raises:
        InvalidBlocksError: one of *blocks* is not in the map.
        """
        if blocks and not (min(blocks) >= 0 and max(blocks) < self.block_count):
            raise InvalidBlocksError(f"blocks {min(blocks)} to {max(blocks)} of {self.block_count}")


def check_alike(local: BlockMap, remote: BlockMap) -> None:
    """Raises:
    InvalidBlocksError: a block here has not the regions and bytes of a block there.
    """
    here = (local.region_count, local.block_bytes)
    there = (remote.region_count, remote.block_bytes)
    if here != there:
        raise InvalidBlocksError(
            f"blocks of {here[1]} bytes in {here[0]} regions here,"
            f" of {there[1]} bytes in {there[0]} regions there"
        )


def addresses_of(blocks: BlockMap, ids: BlockIds) -> Addresses:
    """Return the address of each of *ids* in each region, shape ``(regions, ids)``."""
    starts = np.asarray(blocks.addresses, dtype=np.uint64)[:, None]
    offsets = np.asarray(ids, dtype=np.uint64)[None, :] * np.uint64(blocks.stride_bytes)
    return starts + offsets


@dataclass(frozen=True, slots=True)
class Move:
    """Blocks to be moved between two maps; the n-th of one side is the n-th of the other."""

    local: tuple[int, ...]
    remote: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.local) != len(self.remote):
            raise InvalidBlocksError(f"{len(self.local)} blocks here, {len(self.remote)} there")
