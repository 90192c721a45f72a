"""Limits that all replicas of a router count together."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Set
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from redis.exceptions import RedisError

from twofold_router.access.accounts import Accounts, Ask, Decision
from twofold_router.access.buckets import Backlog, correction_of, cost_of
from twofold_router.access.callers import Limits
from twofold_router.access.limiting import Admission, RateLimitedError
from twofold_router.access.local_limiting import LocalLimiter

TIMEOUT_SECONDS = 0.1
"""For one round trip: Redis answers within a millisecond, or is not well. A request waits for two
at most, one that is under way and its own."""

RETRY_SECONDS = 1.0
"""After a failure nobody asks Redis for this long, and then one request: not all pay the wait."""

SETTLE_SECONDS = 0.5
"""How late Redis may hear of corrections when nobody asks anything."""

MAX_BATCH = 256
"""Keys that one script charges: some 2 ms of Redis' only thread."""

MAX_WAITING = 8192
"""Requests that may wait for a decision; the next is decided alone."""

_AWAY = (RedisError, OSError, TimeoutError)

_log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    name: str
    cost: Backlog
    decision: "asyncio.Future[Decision | None]"


class SharedLimiter:
    """A ``Limiter`` for several replicas, whose accounts stand in Redis.

    ``run`` asks for all that wait in one script and one round trip; while that is under way the
    next gather, so that a busy router pays for a round trip once per many requests.

    While Redis is away each replica goes on alone, from the last state that it saw: a key may then
    have its limits once per replica. Corrections that Redis could not be told are dropped, because
    time fills the buckets again anyway.

    Invariant: ``_owed`` has only what Redis was not told yet of what it has granted itself.
    """

    def __init__(
        self,
        accounts: Accounts,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        on_alone: Callable[[], None] = lambda: None,
    ) -> None:
        self._accounts = accounts
        self._on_alone = on_alone
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._local = LocalLimiter(clock)
        self._waiting: list[_Waiting] = []
        self._owed: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._ask_at = math.inf  # nobody would answer before run() does
        self._is_away = False

    async def admit(self, name: str, limits: Limits, tokens: int) -> Admission:
        """See ``Limiter``. Waits for Redis, for a bounded time."""
        cost = cost_of(limits, tokens)
        decision = await self._ask(name, cost)
        if decision is None:
            self._on_alone()
            return await self._local.admit(name, limits, tokens)
        self._local.put(name, decision.backlog)
        if not decision.granted:
            raise RateLimitedError(name, limits, decision.backlog, cost)
        return Admission(name, limits, tokens, decision.backlog, is_shared=True)

    def settle(self, admission: Admission, tokens: int) -> None:
        """See ``Limiter``. Redis is told soon."""
        self._local.settle(admission, tokens)
        if admission.is_shared:
            correction = correction_of(admission.limits, admission.reserved_tokens, tokens)
            owed_seconds = self._owed.get(admission.name, 0.0) + correction.tokens
            self._owed[admission.name] = owed_seconds

    def keep_only(self, names: Set[str]) -> None:
        """Forget all keys but *names*."""
        self._local.keep_only(names)
        self._owed = {name: self._owed[name] for name in self._owed.keys() & names}

    async def run(self) -> None:
        """Ask Redis for all that wait, until cancelled. Before and after, requests are decided
        alone."""
        self._ask_at = -math.inf
        try:
            while True:
                await self._wait_for_work()
                await self._exchange()
        finally:
            self._ask_at = math.inf
            self._give_up_waiting()

    async def _ask(self, name: str, cost: Backlog) -> Decision | None:
        now = self._clock()
        if now < self._ask_at or len(self._waiting) >= MAX_WAITING:
            return None
        if self._is_away:
            self._ask_at = now + RETRY_SECONDS  # the others need not wait for this attempt
        decision: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(name, cost, decision))
        self._wake.set()
        return await decision

    async def _wait_for_work(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._wake.wait()

    async def _exchange(self) -> None:
        """Tell what is owed, and answer those who wait. Answers None if Redis is away."""
        batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
        if not self._waiting:
            self._wake.clear()
        asks = [Ask(name, cost, self._owed.pop(name, 0.0)) for name, cost, _ in batch]
        quiet = tuple(islice(self._owed, MAX_BATCH - len(asks)))
        asks += [Ask(name, Backlog(), self._owed.pop(name)) for name in quiet]
        decisions: list[Decision] = []
        try:
            if asks:
                decisions = await self._take(asks)
        finally:
            _answer(batch, decisions)

    async def _take(self, asks: list[Ask]) -> list[Decision]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                decisions = await self._accounts.take(asks)
        except _AWAY as error:
            self._go_alone(error)
            return []
        self._come_back()
        return decisions

    def _go_alone(self, error: Exception) -> None:
        self._ask_at = self._clock() + RETRY_SECONDS
        self._give_up_waiting()
        if not self._is_away:
            _log.warning("limits are counted alone", extra={"error": repr(error)})
        self._is_away = True

    def _give_up_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        _answer(waiting, [])

    def _come_back(self) -> None:
        self._ask_at = -math.inf
        if self._is_away:
            _log.info("limits are counted together again")
        self._is_away = False


def _answer(waiting: list[_Waiting], decisions: list[Decision]) -> None:
    """Answer all, with None who has no decision. Those who left hear nothing."""
    for index, (_, _, future) in enumerate(waiting):
        if not future.done():
            future.set_result(decisions[index] if index < len(decisions) else None)
