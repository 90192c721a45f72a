"""Ties an engine's blocks to those of the prompt keys, so that its KV events correct the mirror.

An engine hashes token ids, the router bytes, and no tokenizer stands between them. But an engine
stores the blocks of a prompt as one chain, and says of each prompt how many tokens it had: a chain
of that many blocks, stored since the last prompt and not yet tied, is that prompt's, unless there
are two of them. What is not tied stays as the mirror guesses it.
"""

from collections.abc import Iterable
from typing import Literal

from twofold_cluster.kv_events import (
    AllBlocksCleared,
    BlockHash,
    BlockRemoved,
    BlockStored,
    KvEvent,
)
from twofold_cluster.prompt_key import PromptKey
from twofold_router.placement.interface import BlocksChange
from twofold_router.placement.mirror import CacheMirror

MirrorState = Literal["exact", "approximate", "degraded"]

MAX_UNTIED_CHAINS = 256
"""Chains whose prompt is not over yet, or not ours: more than an engine computes at once."""

MAX_FILLS = 4
"""A cache cannot hold as many blocks as fill it so many times: removals were lost."""


MAX_EARLY_PROMPTS = 16
"""Prompts that end between two batches of events: a batch comes with every step."""


class BlockIndex:
    """The engine's blocks by their hash, as far as events told of them.

    Invariant: each is in ``_depth`` and ``_parent``; a tied one also in ``_digests``.
    """

    def __init__(self, mirror: CacheMirror, block_tokens: int, capacity_tokens: int) -> None:
        self.state: MirrorState = "approximate"
        self._mirror = mirror
        self._block_tokens = max(block_tokens, 1)
        self._most_blocks = MAX_FILLS * capacity_tokens // self._block_tokens
        self._parent: dict[BlockHash, BlockHash | None] = {}
        self._depth: dict[BlockHash, int] = {}
        self._digests: dict[BlockHash, set[bytes]] = {}
        self._untied: dict[BlockHash, None] = {}
        self._early: list[tuple[PromptKey, int]] = []
        """Prompts that were over before the events about them came."""

    def take_in(self, change: BlocksChange) -> None:
        """Follow the engine's cache."""
        if change == "lost":
            self._lose()
        elif change == "restarted":
            self._restart()
        else:
            if self.state == "approximate":
                self.state = "exact"
            for event in change:
                self._follow(event)
            early, self._early = self._early, []
            for key, prompt_tokens in early:
                self._tie(key, prompt_tokens)
            if len(self._depth) > self._most_blocks:
                self._lose()

    def tie(self, key: PromptKey, prompt_tokens: int) -> None:
        """Find the chain of the prompt of *key*, which was just computed, and tie its blocks.

        An engine tells of its blocks and of the prompt on two ways: if the blocks are not here yet,
        they should be in the next batch.
        """
        if self.state != "exact" or self._tie(key, prompt_tokens):
            return
        if len(self._early) < MAX_EARLY_PROMPTS:
            self._early.append((key, prompt_tokens))

    def _tie(self, key: PromptKey, prompt_tokens: int) -> bool:
        count = prompt_tokens // self._block_tokens
        ends = [block for block in self._untied if self._depth.get(block) == count]
        if len(ends) != 1 or key.size_bytes <= 0:
            return False
        del self._untied[ends[0]]
        chain = self._chain(ends[0])
        tokens_per_byte = prompt_tokens / key.size_bytes
        for index, digest in enumerate(key.blocks, start=1):
            last_token = int(index * key.block_bytes * tokens_per_byte)
            block = chain.get(-(-last_token // self._block_tokens))
            if block is not None:
                self._digests.setdefault(block, set()).add(digest)
        return True

    def _follow(self, event: KvEvent) -> None:
        match event:
            case BlockStored():
                if _is_followed(event):
                    self._store(event)
            case BlockRemoved():
                if _is_followed(event):
                    self._remove(event.block_hashes)
            case AllBlocksCleared():
                self._restart()

    def _store(self, event: BlockStored) -> None:
        parent = event.parent
        depth = self._depth.get(parent, 0) if parent is not None else 0
        if parent is not None and depth == 0:
            return  # its beginning was never told of
        if parent is not None:
            self._untied.pop(parent, None)
        for block in event.block_hashes:
            depth += 1
            self._parent[block] = parent
            self._depth[block] = depth
            parent = block
        if parent is not None:
            self._untied[parent] = None
        while len(self._untied) > MAX_UNTIED_CHAINS:
            del self._untied[next(iter(self._untied))]

    def _remove(self, blocks: Iterable[BlockHash]) -> None:
        for block in blocks:
            self._depth.pop(block, None)
            self._parent.pop(block, None)
            self._untied.pop(block, None)
            for digest in self._digests.pop(block, ()):
                self._mirror.forget(digest)

    def _chain(self, end: BlockHash) -> dict[int, BlockHash]:
        """Return the blocks from *end* back to the first tied one, by their number from 1."""
        chain: dict[int, BlockHash] = {}
        block: BlockHash | None = end
        while block is not None and block in self._depth:
            chain[self._depth[block]] = block
            if block in self._digests:
                break  # those before it were tied with it
            block = self._parent[block]
        return chain

    def _lose(self) -> None:
        """Take note that what is known here is not what the engine has."""
        self._clear()
        self.state = "degraded"

    def _restart(self) -> None:
        """Take note that the engine's cache is empty."""
        self._clear()
        self._mirror.clear()
        self.state = "exact"

    def _clear(self) -> None:
        for known in (self._parent, self._depth, self._digests, self._untied, self._early):
            known.clear()


def _is_followed(event: BlockStored | BlockRemoved) -> bool:
    """Tell whether *event* is of the cache that prompts are found in: that of the device, and of a
    hybrid model's groups the first, since all of them have to hold a prefix."""
    return event.medium in (None, "GPU") and event.group == 0
