"""Requests that wait until the beginning of their prompt was pulled into the local prefix cache.

What was pulled is cached before the request is scheduled, and then found there by vLLM as if it had
been computed here. So nothing has to be undone when a pull fails: the prompt is computed.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twofold_cluster.legs import FOLLOW_LIMIT_SECONDS
from twofold_kvtransfer.connector.sharing import Advice, SharedPulls
from twofold_kvtransfer.prefixes import PrefixSource, Pull, Pulled, prefix_from_params
from twofold_kvtransfer.pulling import LEAST_SECONDS
from twofold_kvtransfer.shelf import Block
from twofold_kvtransfer.sources import InvalidSourceError

MAX_SHARE_OF_FREE = 0.5
"""Of the free blocks, those that pulls may take: others need some too."""

_log = logging.getLogger(__name__)


class Request(Protocol):
    """What is read of vLLM's request."""

    request_id: str
    kv_transfer_params: dict[str, Any] | None
    num_prompt_tokens: int
    block_hashes: Sequence[bytes]
    skip_reading_prefix_cache: bool | None


class Pool(Protocol):
    """What is used of vLLM's pool of blocks."""

    hash_block_size: int
    null_block: Block
    get_new_blocks: Callable[[int], list[Block]]
    cache_full_blocks: Callable[..., None]

    def get_num_free_blocks(self) -> int: ...

    def get_cached_block(
        self, block_hash: bytes, kv_cache_group_ids: list[int]
    ) -> Sequence[Block] | None: ...

    def touch(self, blocks: Sequence[Block]) -> None: ...

    def free_blocks(self, ordered_blocks: Iterable[Block]) -> None: ...


@dataclass(slots=True)
class _Moving:
    request: Request
    first: int
    """Of the prompt's blocks, the number of the first that is pulled."""
    names: Sequence[bytes]
    blocks: list[Block]
    before: list[Block]
    """Those before the first, found here and kept: without them the others are of no use."""
    cached: int = 0
    """So many of them, from the first on."""
    is_wanted: bool = True
    """The request has not ended."""


class PrefixPulls:
    """In the engine's thread, which owns *pool*.

    A request that names a source is *new*, then *moving*, then it was tried; each once. It stays
    new while the next block that it needs is pulled for another one. Then blocks are taken for what
    is still not here, and given back when its pull has ended, also if the request has ended before.
    One that follows its source waits until it is ended.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        may_pull: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Made before the pool's :class:`Shelf`: what is cached here was computed elsewhere, and in
        no step of this engine. Unless it *may_pull*, who follows waits all the same."""
        self._pool = pool
        self._cache_full_blocks = pool.cache_full_blocks
        self._may_pull = may_pull
        self._clock = clock
        self._new: dict[str, PrefixSource] = {}
        self._moving: dict[str, _Moving] = {}
        self._shared = SharedPulls()
        self._following: dict[str, float] = {}
        """Until when each of these requests waits at most."""
        self._pulled: dict[str, Pulled] = {}
        self._orders: list[Pull] = []
        self._dropped: list[str] = []

    def note_arrival(self, request: Request) -> None:
        """Read whether *request* names a source."""
        try:
            source = prefix_from_params(request.kv_transfer_params or {})
        except InvalidSourceError as error:
            _log.warning("request %s: %s", request.request_id, error)
            return
        if source is not None:
            self._new[request.request_id] = source

    def waits(self, request: Request, computed: int) -> bool:
        """Say whether *request*, of which *computed* tokens are cached here, is to wait."""
        name = request.request_id
        source = self._new.get(name)
        if source is not None:
            if source.follow:
                self._following.setdefault(name, self._clock() + FOLLOW_LIMIT_SECONDS)
            if self._is_behind(request, source, computed // self._pool.hash_block_size):
                return True
        return name in self._moving or self._clock() < self._following.get(name, 0.0)

    def take_orders(self) -> tuple[list[Pull], list[str]]:
        """Return the pulls that have begun since the last call, and the requests that have ended
        before their pulls."""
        orders = self._orders, self._dropped
        self._orders, self._dropped = [], []
        return orders

    @property
    def is_pulling(self) -> bool:
        return bool(self._moving)

    def note_pulled(self, pulled: Pulled) -> None:
        """Cache what was *pulled*; with the last of it, give the rest of its blocks back."""
        moving = self._moving[pulled.request_id]
        if pulled.block_count > moving.cached:
            self._cache(moving, pulled.block_count)
        if pulled.is_last:
            if pulled.block_count and moving.is_wanted:
                self._pulled[pulled.request_id] = pulled
            self._let_go(pulled.request_id)

    def stop(self, request_id: str) -> None:
        """Let a pull end that no more can come of; its request then computes the rest."""
        self._dropped.append(request_id)

    def note_end(self, request: Request) -> dict[str, Any]:
        """Forget *request*, and return what to tell of its prefix: nothing if none was pulled."""
        name = request.request_id
        self._new.pop(name, None)
        self._shared.forget(name)
        self._following.pop(name, None)
        if name in self._moving:
            self._drop(name)
        pulled = self._pulled.pop(name, None)
        if pulled is None:
            return {}
        tokens = pulled.block_count * self._pool.hash_block_size
        return {"prefix_tokens": tokens, "prefix_seconds": pulled.seconds}

    def _is_behind(self, request: Request, source: PrefixSource, first: int) -> bool:
        """Say whether *request* is to wait for what is pulled for another one; if not, it is tried
        now. *first* is the number of its first block that is not here."""
        name = request.request_id
        names = self._wanted(request, source, first)
        if names:
            advice = self._shared.advise(
                name,
                names[0],
                first,
                follows=source.follow,
                now=self._clock(),
                patience=self._patience(source, len(names)),
            )
            if advice is Advice.WAIT:
                return True
            if advice is Advice.PULL:
                self._start(request, source, first, names)
        del self._new[name]
        self._shared.forget(name)
        return False

    def _wanted(self, request: Request, source: PrefixSource, first: int) -> tuple[bytes, ...]:
        """Return the names of the blocks that are to be pulled, from the *first* on."""
        if not self._may_pull or request.skip_reading_prefix_cache:
            return ()
        size = self._pool.hash_block_size
        # At least one token has to be computed, as vLLM has it too.
        end = min(source.tokens // size, (request.num_prompt_tokens - 1) // size)
        return tuple(request.block_hashes[first:end])

    def _patience(self, source: PrefixSource, block_count: int) -> float:
        if source.follow:
            return FOLLOW_LIMIT_SECONDS
        tokens = block_count * self._pool.hash_block_size
        return max(LEAST_SECONDS, tokens * source.seconds_per_token)

    def _start(
        self, request: Request, source: PrefixSource, first: int, names: tuple[bytes, ...]
    ) -> None:
        name = request.request_id
        if name in self._moving:
            return
        before = self._hold(request.block_hashes[:first])
        if before is None:
            return
        names = names[: self._room()]
        if not names:
            self._pool.free_blocks(reversed(before))
            return
        blocks = self._pool.get_new_blocks(len(names))
        self._moving[name] = _Moving(request, first, names, blocks, before)
        self._shared.begin(name, names, follows=source.follow)
        local = tuple(block.block_id for block in blocks)
        self._orders.append(Pull(name, source, names, local, self._pool.hash_block_size))

    def _room(self) -> int:
        """Return how many blocks more may be taken."""
        taken = sum(len(moving.blocks) for moving in self._moving.values())
        free = self._pool.get_num_free_blocks()
        return max(0, int(MAX_SHARE_OF_FREE * (free + taken)) - taken)

    def _hold(self, names: Sequence[bytes]) -> list[Block] | None:
        """Keep the blocks that are cached under *names*; None: one is not there any more."""
        held: list[Block] = []
        for name in names:
            found = self._pool.get_cached_block(name, [0])
            if not found:
                return None
            held.append(found[0])
        self._pool.touch(held)
        return held

    def _drop(self, name: str) -> None:
        """Let the pull of a request end that has ended; one that has not begun never begins."""
        self._moving[name].is_wanted = False
        others = [order for order in self._orders if order.request_id != name]
        if len(others) == len(self._orders):
            self._dropped.append(name)
            return
        self._orders = others
        self._let_go(name)

    def _let_go(self, name: str) -> None:
        """Give back the blocks of a pull that is over."""
        moving = self._moving.pop(name)
        self._shared.end(name, moving.names)
        # The last of the prompt is evicted first, and before that what holds nothing.
        self._pool.free_blocks(reversed(moving.before + moving.blocks))

    def _cache(self, moving: _Moving, count: int) -> None:
        """Let vLLM find the first *count* blocks that were pulled."""
        before = [self._pool.null_block] * moving.first
        self._cache_full_blocks(
            moving.request,
            before + moving.blocks[:count],
            moving.first + moving.cached,
            moving.first + count,
            self._pool.hash_block_size,
            0,
        )
        moving.cached = count
