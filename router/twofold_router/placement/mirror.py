"""What a worker's prefix cache holds, as far as the router can know (DESIGN, "Cached prefix").

vLLM frees the blocks of a finished request from its last to its first and evicts the least
recently freed, so a prefix leaves the cache from its end. The mirror does the same with the blocks
of prompt keys: a block is in it only together with all blocks before it, and the longest cached
prefix of a key can be found by bisection.
"""

from collections import OrderedDict
from collections.abc import Iterator

from twofold_cluster.prompt_key import PromptKey
from twofold_router.placement.prefixes import known_count

LEAST_SHARE = 8
"""A block is counted as this part of an engine's block at least."""


class CacheMirror:
    """A bounded LRU of block digests, each with the tokens from the prompt's start to its end.

    Invariant: a digest's predecessors in its chain are in the mirror, and are not older.
    """

    __slots__ = (
        "_capacity_tokens",
        "_engine_block_tokens",
        "_partial",
        "_partial_tokens",
        "_tokens",
        "_whole_tokens",
    )

    def __init__(self, capacity_tokens: int, engine_block_tokens: int) -> None:
        """*capacity_tokens* is the whole KV cache of the worker, which caches whole blocks of
        *engine_block_tokens*."""
        self._capacity_tokens = capacity_tokens
        self._engine_block_tokens = max(engine_block_tokens, 1)
        self._tokens: OrderedDict[bytes, int] = OrderedDict()
        self._partial: dict[bytes, float] = {}
        self._partial_tokens = 0.0
        self._whole_tokens = 0.0

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[bytes]:
        """Go through the blocks in the order in which they will leave."""
        return iter(self._tokens)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._tokens

    @property
    def held_tokens(self) -> float:
        """Return the estimate of what all blocks here take."""
        return self._whole_tokens + self._partial_tokens

    @property
    def block_tokens(self) -> float:
        """Return what a whole block here takes on average. Of each alone that is not kept: it is
        all but equal, and there may be a million."""
        whole_count = len(self._tokens) - len(self._partial)
        return self._whole_tokens / whole_count if whole_count else 0.0

    def cached_tokens(self, key: PromptKey) -> int:
        """Return how many tokens of the prompt of *key* the worker would not compute: whole
        engine blocks, and never the last token."""
        tokens = self._tokens
        known = tokens.get(key.end)
        if known is not None:
            known -= 1
        else:
            count = known_count(key.blocks, tokens)
            if not count:
                return 0
            known = tokens[key.blocks[count - 1]]
        return known - known % self._engine_block_tokens

    def hold(self, key: PromptKey, prompt_tokens: int) -> None:
        """Take note that the worker has just computed the prompt of *key*, *prompt_tokens* long.

        The tokens before each block's end are shared out by bytes.
        """
        if key.size_bytes <= 0 or prompt_tokens <= 0:
            return
        tokens, blocks = self._tokens, key.blocks
        block_tokens = key.block_bytes * prompt_tokens / key.size_bytes
        whole_count = len(blocks)
        end_tokens = int(whole_count * block_tokens)
        if prompt_tokens > end_tokens and key.end not in blocks[-1:]:
            if key.end not in tokens:
                tokens[key.end] = prompt_tokens
                taken = self._taken_tokens(end_tokens, prompt_tokens, 1)
                self._partial[key.end] = taken
                self._partial_tokens += taken
            tokens.move_to_end(key.end)
        renew = tokens.move_to_end
        known_count = whole_count
        for index in range(whole_count, 0, -1):
            digest = blocks[index - 1]
            # What was learned from the prompt that ended here is more exact than a longer one's.
            if digest in tokens:
                renew(digest)
            else:
                tokens[digest] = int(index * block_tokens)
                known_count = index - 1
        if known_count < whole_count:
            known_tokens = tokens[blocks[known_count - 1]] if known_count else 0
            new_count = whole_count - known_count
            self._whole_tokens += self._taken_tokens(known_tokens, end_tokens, new_count)
        while self.held_tokens > self._capacity_tokens:
            self.forget(next(iter(tokens)))

    def _taken_tokens(self, start: int, end: int, block_count: int) -> float:
        """Return what *block_count* blocks from token *start* to *end* take in the worker's cache,
        which holds whole engine blocks; never nothing, so that the number here is bounded too."""
        size = self._engine_block_tokens
        return max(end // size * size - start // size * size, block_count * size / LEAST_SHARE)

    def correct(self, key: PromptKey, cached_tokens: int) -> None:
        """Take note that of the prompt of *key* only *cached_tokens* were cached.

        Eviction goes by age, so whatever was used less recently than a block that is gone is gone
        as well.
        """
        tokens = self._tokens
        slack_tokens = max(self._engine_block_tokens, int(self.block_tokens))
        for digest in key.blocks:
            known = tokens.get(digest)
            if known is None:
                return
            if known > cached_tokens + slack_tokens:
                oldest = None
                while oldest != digest:
                    oldest = next(iter(tokens))
                    self.forget(oldest)
                return

    def forget(self, digest: bytes) -> None:
        """Drop one block. What follows it in its chain has to be dropped before or after."""
        if digest not in self._tokens:
            return
        rest_tokens = self._partial.pop(digest, None)
        if rest_tokens is None:
            self._whole_tokens -= self.block_tokens
        else:
            self._partial_tokens -= rest_tokens
        del self._tokens[digest]

    def clear(self) -> None:
        self._tokens.clear()
        self._partial.clear()
        self._partial_tokens = 0.0
        self._whole_tokens = 0.0
