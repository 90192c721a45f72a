"""Which requests have their blocks elsewhere, and whose blocks are kept for others."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from twofold_kvtransfer.connector.agreeing import PullsOfRanks
from twofold_kvtransfer.connector.orders import Fetch, Orders
from twofold_kvtransfer.connector.prefix_pulls import Pool, PrefixPulls
from twofold_kvtransfer.prefixes import Pulled
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.sources import InvalidSourceError, Source, from_params, to_params

_log = logging.getLogger(__name__)


class Request(Protocol):
    """What is read of vLLM's request."""

    request_id: str
    kv_transfer_params: dict[str, Any] | None
    num_prompt_tokens: int
    num_computed_tokens: int
    block_hashes: Sequence[bytes]
    skip_reading_prefix_cache: bool | None


class Blocks(Protocol):
    """What is read of the blocks that vLLM has given a request."""

    def get_block_ids(self) -> tuple[list[int], ...]:
        """Return those of each group of layers, in the order of the prompt from its first token."""


class SchedulerSide:
    """Turns what happens to requests into orders for the ranks.

    ``_sources`` holds the requests that have not been given their blocks yet; a request leaves it
    once, when blocks are allocated for it or when it ends.
    """

    def __init__(
        self,
        engine_id: str,
        settings: ConnectorSettings,
        tensor_parallel: int,
        *,
        block_tokens: int,
    ) -> None:
        self._engine_id = engine_id
        self._settings = settings
        self._tensor_parallel = tensor_parallel
        self._block_tokens = block_tokens
        self._sources: dict[str, Source | None] = {}
        self._orders = Orders()
        self._prefixes: PrefixPulls | None = None
        self._pulls_of_ranks = PullsOfRanks(tensor_parallel)

    def bind_pool(self, pool: Pool, *, may_pull: bool) -> None:
        """Pull prefixes into *pool* from now on, if it *may_pull*."""
        self._prefixes = PrefixPulls(pool, may_pull=may_pull)

    def note_arrival(self, request: Request) -> None:
        """Read where the blocks of *request* are, and keep them there while it waits."""
        params = request.kv_transfer_params
        if not params or not params.get("do_remote_prefill"):
            if self._prefixes is not None:
                self._prefixes.note_arrival(request)
            return
        try:
            source = self._source_of(request, params)
        except InvalidSourceError as error:
            _log.error("request %s: %s", request.request_id, error)
            self._sources[request.request_id] = None
            return
        self._sources[request.request_id] = source
        self._orders.awaited.append(source)

    def count_remote_tokens(self, request: Request, computed: int) -> int | None:
        """Return how many tokens of the prompt, after the *computed* ones, can be fetched; None:
        ask again, more of them will perhaps be cached here."""
        if request.request_id not in self._sources:
            waits = self._prefixes is not None and self._prefixes.waits(request, computed)
            return None if waits else 0
        return max(0, request.num_prompt_tokens - computed)

    def note_blocks(self, request: Request, blocks: Blocks, remote_tokens: int) -> None:
        """Order what *request*, which has its blocks now, needs or will be asked for."""
        name = request.request_id
        if (request.kv_transfer_params or {}).get("do_remote_decode"):
            self._orders.promised.append(name)
        if name not in self._sources:
            return
        source = self._sources.pop(name)
        if remote_tokens > 0:
            computed = request.num_prompt_tokens - remote_tokens
            # By their places: a block without a name is not always one that holds nothing yet.
            (ids,) = blocks.get_block_ids()
            end = self._block_count(request.num_prompt_tokens)
            local = tuple(ids[computed // self._block_tokens : end])
            self._orders.fetches.append(Fetch(name, source, local))
        elif source is not None:
            self._orders.abandoned.append(source)

    @property
    def is_pulling(self) -> bool:
        """A prefix is being pulled."""
        return self._prefixes is not None and self._prefixes.is_pulling

    def note_pulled(self, told: Iterable[tuple[int, Pulled]]) -> list[Pulled]:
        """Note what ranks have *told* of prefixes, each with its number; return what came of those
        pulls that have ended."""
        assert self._prefixes is not None
        ended = []
        for rank, pulled in told:
            agreed = self._pulls_of_ranks.note(rank, pulled)
            if agreed is not None:
                self._prefixes.note_pulled(agreed)
                if agreed.is_last:
                    ended.append(agreed)
        for name in self._pulls_of_ranks.take_vain():
            self._prefixes.stop(name)
        return ended

    def note_end(
        self, request: Request, block_ids: list[int], *, complete: bool
    ) -> tuple[bool, dict[str, Any] | None]:
        """Return whether the blocks of *request* are kept, and what to tell who fetches them.

        *complete*: it has generated what it was to; it was not aborted, and did not fail.
        """
        name = request.request_id
        prefix = self._prefixes.note_end(request) if self._prefixes is not None else {}
        source = self._sources.pop(name, None)
        if source is not None:
            self._orders.abandoned.append(source)
        if not (request.kv_transfer_params or {}).get("do_remote_decode"):
            return False, None
        if not complete or not block_ids:
            self._orders.withdrawn.append(name)
            return False, None
        self._orders.granted[name] = len(block_ids)
        kept = Source(
            engine_id=self._engine_id,
            request_id=name,
            host=self._settings.host,
            port=self._settings.port,
            tensor_parallel=self._tensor_parallel,
            # Not those behind it, which are for tokens that a drafter would propose.
            blocks=tuple(block_ids[: self._block_count(request.num_prompt_tokens)]),
        )
        return True, to_params(kept, request.num_prompt_tokens) | prefix

    def _source_of(self, request: Request, params: dict[str, Any]) -> Source:
        """Raises:
        InvalidSourceError: the params do not say where the blocks are, or not where those of this
            very prompt are: which block holds which tokens is known by their count alone.
        """
        source = from_params(params)
        wanted, there = request.num_prompt_tokens, params.get("remote_num_tokens")
        if there != wanted or len(source.blocks) != self._block_count(wanted):
            raise InvalidSourceError(
                f"a prompt of {wanted} tokens, and {len(source.blocks)} blocks of {there} tokens"
            )
        return source

    def _block_count(self, token_count: int) -> int:
        return -(-token_count // self._block_tokens)

    def take_orders(self) -> Orders:
        """Return what has been ordered since the last call."""
        orders, self._orders = self._orders, Orders()
        if self._prefixes is not None:
            orders.pulls, orders.dropped_pulls = self._prefixes.take_orders()
        return orders
