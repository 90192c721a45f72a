"""What an engine says of its KV cache, with nothing of a prompt in it but its length."""

import msgspec

BlockHash = int | bytes
"""Opaque: engines differ in how they hash, so it is compared within one incarnation only."""


class BlockStored(msgspec.Struct, frozen=True, tag=True):
    """Blocks that follow one another, and follow *parent*, are in the cache now.

    An engine may tell so again of blocks that it finds in its cache.
    """

    block_hashes: tuple[BlockHash, ...]
    """In the order of the prompt."""
    parent: BlockHash | None
    """The block before the first; None: a prompt begins here."""
    token_count: int
    """Of all these blocks together."""
    block_tokens: int
    medium: str | None = None
    """``GPU`` or ``CPU`` and so on; None: the engine has one cache only."""
    lora: str | None = None
    group: int = 0
    """Layers of one kind; hybrid models have several groups, each with blocks of its own."""


class BlockRemoved(msgspec.Struct, frozen=True, tag=True):
    """These blocks are no longer in the cache of *medium* and *group*."""

    block_hashes: tuple[BlockHash, ...]
    medium: str | None = None
    group: int = 0


class AllBlocksCleared(msgspec.Struct, frozen=True, tag=True):
    """The cache is empty."""


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared
