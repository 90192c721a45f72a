"""Where requests are decoded: the choice, and what is counted there."""

import random
from collections.abc import Sequence

from twofold_cluster.identity import WorkerId
from twofold_router.placement.accounts import Account
from twofold_router.placement.decode_choice import (
    SAMPLE_LIMIT,
    TransferCosts,
    choose_decode,
    sample,
)
from twofold_router.placement.holdings import Holding
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting

HOME_COUNT = 2
"""Of a large pool, those that the key names are always looked at: earlier turns went there, if
that was no worse than elsewhere."""


class DecodeSide:
    """Invariant: an account's ``decoding`` is the number of joined requests there, and its batch
    holds the same."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._costs = TransferCosts()
        self._turn = 0

    def choose(
        self,
        pool: Pool | None,
        waiting: Waiting,
        source: Account | None,
        avoid: frozenset[WorkerId],
        now: float,
    ) -> Account | None:
        """Return the best of *pool* outside *avoid*, None if there is none.

        *source* is where the prompt is computed, None if that is where it is decoded.
        """
        if pool is None:
            return None
        accounts: Sequence[Account] = pool.accounts
        limit = SAMPLE_LIMIT + len(avoid)
        if len(accounts) > limit:
            accounts = sample(accounts, self._homes(pool, waiting), limit, self._rng)
        if avoid:
            accounts = [a for a in accounts if a.worker.worker_id not in avoid]
        if len(accounts) < 2:
            return accounts[0] if accounts else None
        key = waiting.request.key
        statistics = accounts[0].statistics
        return choose_decode(
            accounts,
            [account.mirror.cached_tokens(key) for account in accounts],
            waiting.prompt_tokens,
            statistics.output_lengths.predict(waiting.request.max_output_tokens),
            source.worker.topology if source else None,
            self._costs,
            now,
        )

    def join(self, holding: Holding, account: Account, now: float) -> None:
        """Count a request at *account*."""
        self._turn += 1
        holding.decode = account
        account.decoding += 1
        account.last_turn = self._turn
        waiting = holding.waiting
        request = waiting.request
        longest = request.max_output_tokens or account.worker.max_model_tokens
        account.advance(now)
        predicted = account.statistics.output_lengths.predict(longest)
        account.batch.admit(request.request_id, waiting.prompt_tokens, predicted, longest)

    def begin(self, holding: Holding, now: float) -> None:
        """Take note that the prompt is computed, and decoding begins."""
        holding.decode.advance(now)
        holding.decode.batch.begin(holding.waiting.request.request_id)

    def leave(self, holding: Holding, now: float) -> None:
        """Count a request no longer where it is decoded."""
        account = holding.decode
        account.advance(now)
        assert account.decoding > 0, account.worker.worker_id
        account.decoding -= 1
        account.batch.leave(holding.waiting.request.request_id)

    def _homes(self, pool: Pool, waiting: Waiting) -> list[Account]:
        return pool.homes(waiting.key or waiting.request.key.end, HOME_COUNT)
