"""Where the blocks that are wanted lie within those of a peer."""

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError


def part_of(wanted: BlockMap, described: BlockMap) -> tuple[int, int]:
    """Return offset and length, within a block of *described*, of what *wanted* has of it.

    Raises:
        InvalidBlocksError: *wanted* is no part of *described*.
    """
    offset = wanted.addresses[0] - described.addresses[0]
    pairs = zip(wanted.addresses, described.addresses, strict=False)
    offsets = {inner - outer for inner, outer in pairs}
    if (
        offsets != {offset}
        or wanted.region_count != described.region_count
        or wanted.stride_bytes != described.stride_bytes
        or wanted.block_count > described.block_count
        or not 0 <= offset <= described.block_bytes - wanted.block_bytes
    ):
        raise InvalidBlocksError("the blocks wanted are no part of those that the peer described")
    return offset, wanted.block_bytes
