"""Which heads of a holder's blocks a rank reads."""

from twofold_kvtransfer.blocks import InvalidBlocksError


def part_read(rank: int, rank_count: int, *, there_bytes: int, here_bytes: int) -> tuple[int, int]:
    """Return which of how many equal parts of each block hold the heads of *rank*, as index and
    count, of which *rank_count* ranks in a row read from one holder.

    A block in a region has *there_bytes* at the holder, and *here_bytes* in the rank. vLLM shares
    out a model's KV heads in the order of the ranks; where there are more ranks than heads,
    neighbours have the same one (``QKVParallelLinear``, ``num_kv_head_replicas``).

    Raises:
        InvalidBlocksError: no such sharing makes blocks of these sizes.
    """
    count, rest = divmod(there_bytes, here_bytes) if here_bytes > 0 else (0, 0)
    if rest or not count or rank_count % count:
        raise InvalidBlocksError(
            f"blocks of {here_bytes} bytes of one of {rank_count} ranks are no part of blocks of"
            f" {there_bytes} bytes"
        )
    return rank % rank_count // (rank_count // count), count
