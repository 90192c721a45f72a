"""The blocks of prompts, and how many of them at the beginning are known somewhere."""

from collections.abc import Container

Blocks = tuple[bytes, ...]
"""The digests of a prompt's blocks in order, each of everything up to its end. So where a block is
known those before it are, and the longest known prefix is found by bisection."""


def known_count(blocks: Blocks, known: Container[bytes], or_known: Container[bytes] = ()) -> int:
    """Return how many blocks at the beginning of *blocks* are in *known* or in *or_known*."""
    # Most prompts are new or known to the last block but a few: try the first at once.
    if not blocks or not (blocks[0] in known or blocks[0] in or_known):
        return 0
    low, high = 1, len(blocks)
    while low < high:
        middle = (low + high + 1) // 2
        digest = blocks[middle - 1]
        if digest in known or digest in or_known:
            low = middle
        else:
            high = middle - 1
    return low
