"""Prompts whose blocks a worker keeps for a time, though nobody reads them.

A pin is a lease that is promised to nobody: the worker sends itself leg 1 of a request, as a router
does, and has each rank keep the lease.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from twofold_cluster.legs import InvalidTransferParamsError, prefill_leg, transfer_params
from twofold_cluster.worker import Worker
from twofold_engine.prefixes.engine import Computed
from twofold_engine.prefixes.errors import (
    NoRoomError,
    NotAnsweredError,
    PrefixError,
    UnknownPinError,
)
from twofold_engine.prefixes.prompts import Prompt
from twofold_engine.prefixes.ranks import Ranks
from twofold_kvtransfer.leases import MAX_PINNED_SHARE

_log = logging.getLogger(__name__)

Compute = Callable[[Prompt, bytes], Awaitable[Computed]]
"""Sends the worker's own engine a leg of a prompt."""


@dataclass(frozen=True, slots=True)
class Pin:
    request_id: str
    token_count: int
    """Of the prompt."""
    kept_token_count: int
    """In full blocks: what it takes of the cache."""
    cached_token_count: int
    """That had not to be computed."""
    ends_at: float
    """Of the clock."""


class Pins:
    """All pins of one worker, by the names of their requests.

    Invariant: those that have not ended keep at most ``MAX_PINNED_SHARE`` of the cache. Blocks that
    two of them share count twice, so that ending one never leaves more than was counted.
    """

    def __init__(
        self,
        own: Callable[[], Worker],
        compute: Compute,
        ranks: Ranks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = own
        self._compute = compute
        self._ranks = ranks
        self._clock = clock
        self._pins: dict[str, Pin] = {}
        self._turn = asyncio.Lock()
        self._closed = False

    async def pin(self, prompt: Prompt, seconds: float) -> Pin:
        """Compute *prompt* and keep its blocks for *seconds*.

        Raises:
            NoRoomError: the pins would keep too much of the cache.
            PrefixError: the worker drains.
            InvalidPromptError: the engine refuses the prompt.
            NotAnsweredError: the engine does not answer, or has kept nothing.
        """
        async with self._turn:  # one at a time: how much each takes is known when it is there
            self._check_room(0)
            computed = await self._compute(prompt, prefill_leg(prompt.api, prompt.fields))
            request_id = _request_id(computed.answer)
            try:
                return await self._keep(request_id, computed, seconds)
            except BaseException:
                await self._release(request_id)
                raise

    async def unpin(self, request_id: str) -> None:
        """End a pin.

        Raises:
            UnknownPinError: there is none.
            NotAnsweredError: the engine does not answer; it ends by its time.
        """
        self._forget_ended()
        if request_id not in self._pins:
            raise UnknownPinError(f"no pin of request {request_id}")
        await self._ranks.release(request_id)
        self._pins.pop(request_id, None)

    async def close(self) -> None:
        """End all pins, and let nobody pin any more. What cannot be ended ends by its time."""
        self._closed = True
        pins, self._pins = self._pins, {}
        await asyncio.gather(*map(self._release, pins))

    async def _keep(self, request_id: str, computed: Computed, seconds: float) -> Pin:
        kept = _full_blocks(computed.token_count, self._own().kv_block_tokens)
        self._check_room(kept)
        ends_at = self._clock() + seconds
        await self._ranks.pin(request_id, seconds)
        if self._closed:
            raise _draining()
        pin = Pin(request_id, computed.token_count, kept, computed.cached_token_count, ends_at)
        self._pins[request_id] = pin
        return pin

    def _check_room(self, token_count: int) -> None:
        """Raises:
        NoRoomError: *token_count* more would be too much, or all is taken.
        PrefixError: the worker drains.
        """
        if self._closed:
            raise _draining()
        self._forget_ended()
        bound = int(MAX_PINNED_SHARE * self._own().kv_capacity_tokens)
        taken = sum(pin.kept_token_count for pin in self._pins.values())
        if taken + token_count > bound or taken >= bound:
            raise NoRoomError(
                f"pins may keep {bound} tokens of this worker's cache, and keep {taken};"
                f" this one would take {token_count or 'more'}"
            )

    def _forget_ended(self) -> None:
        now = self._clock()
        self._pins = {name: pin for name, pin in self._pins.items() if pin.ends_at > now}

    async def _release(self, request_id: str) -> None:
        try:
            await self._ranks.release(request_id)
        except NotAnsweredError as error:
            _log.warning("a pin is left to end by its time: %s", error)


class _Params(msgspec.Struct, frozen=True):
    remote_request_id: str


def _request_id(answer: bytes) -> str:
    """Return the name of the lease that an *answer* to leg 1 offers.

    Raises:
        NotAnsweredError: it offers none.
    """
    try:
        return msgspec.json.decode(transfer_params(answer), type=_Params).remote_request_id
    except (InvalidTransferParamsError, msgspec.DecodeError) as error:
        raise NotAnsweredError(f"the engine has kept no blocks: {error}") from error


def _full_blocks(token_count: int, block_tokens: int) -> int:
    return -(-token_count // block_tokens) * block_tokens


def _draining() -> PrefixError:
    return PrefixError("the worker drains, and pins nothing any more")
