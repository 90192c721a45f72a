"""Preble's scheduler: exploit what is cached, or explore.

V. Srivatsa et al., "Preble: efficient distributed prompt scheduling for LLM serving", ICLR 2025,
arXiv 2407.00023, algorithm E2, with the values of its published code (github.com/WukLab/preble at
8e7906a, preble/global_scheduler_with_time.py).

A worker's load cost for a request is the sum of what it was given in the last three minutes, in
seconds; of what would have to be computed again of the blocks that it would evict, each by the
share of the recent requests that have it; and of computing the request there. If more of the
prompt is cached than not, the cheapest of the workers with its longest prefix takes it (exploit),
otherwise the cheapest of all (explore). When the worker with the most load has more than 1.5 times
that of the one with the least, what would exploit it goes there instead; the copy made so is
exploited from then on, which also replicates what is too popular for one worker.

At the worker, the requests are in ten groups by the share of the prompt that is cached; of 55 that
go, ten are of the first group, nine of the second and so on, each by arrival.

Its seconds are the router's measured ones, not a fit for one model on one GPU.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from twofold_router.placement.accounts import Account
from twofold_router.placement.baselines import allowed
from twofold_router.placement.choice import Choose
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting
from twofold_sim.policies.routed import Routed

WINDOW_SECONDS = 180.0
BALANCE_THRESHOLD = 1.5
GROUP_COUNT = 10


def exploit_or_explore(*, counts_pending: bool = False) -> Choose:
    """Make Preble's choice.

    *counts_pending*: a worker's load is what is pending there and not what it was given lately,
    which is kinder to Preble as long as nobody is overloaded.
    """
    routed, window = Routed(), _Window()

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        window.forget_before(now - WINDOW_SECONDS)
        accounts = allowed(waiting, pool)
        key, prompt_tokens = waiting.request.key, waiting.prompt_tokens
        loads = [
            _pending_seconds(account, now) if counts_pending else window.seconds_of(account)
            for account in accounts
        ]
        matched = [routed.matched_tokens(account, key) for account in accounts]

        def cost(number: int) -> float:
            account = accounts[number]
            missed_tokens = prompt_tokens - matched[number]
            again_seconds = _eviction_seconds(account, missed_tokens, routed, window)
            return loads[number] + again_seconds + missed_tokens * account.speed.seconds_per_token

        numbers = range(len(accounts))
        longest = max(matched)
        if longest > prompt_tokens - longest:
            best = min((number for number in numbers if matched[number] == longest), key=cost)
            most, least = max(loads), min(loads)
            if loads[best] == most > BALANCE_THRESHOLD * least:
                best = loads.index(least)
        else:
            best = min(numbers, key=cost)
        chosen = accounts[best]
        window.add(chosen, waiting, prompt_tokens - matched[best], now)
        routed.send(chosen, key, prompt_tokens)
        return (chosen,), chosen

    return choose


def _pending_seconds(account: Account, now: float) -> float:
    queued_seconds = account.queued_tokens * account.speed.seconds_per_token
    return account.free_at(now) - now + queued_seconds


def _eviction_seconds(
    account: Account, new_tokens: float, routed: Routed, window: "_Window"
) -> float:
    mirror = routed.of(account)
    excess_tokens = mirror.held_tokens + new_tokens - account.worker.kv_capacity_tokens
    if excess_tokens <= 0 or not len(mirror):
        return 0.0
    block_tokens = mirror.held_tokens / len(mirror)
    evicted = islice(mirror, int(excess_tokens / block_tokens) + 1)
    return sum(map(window.share_of, evicted)) * block_tokens * account.speed.seconds_per_token


class _Given(NamedTuple):
    at: float
    worker_id: str
    seconds: float
    blocks: tuple[bytes, ...]


class _Window:
    """The requests of the last minutes.

    Invariant: ``_seconds`` is the sum over ``_given`` of each worker, and ``_block_counts`` says in
    how many of them a block is.
    """

    def __init__(self) -> None:
        self._given: deque[_Given] = deque()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._block_counts: Counter[bytes] = Counter()

    def seconds_of(self, account: Account) -> float:
        """Return the work that the worker was given."""
        return self._seconds[account.worker.worker_id]

    def share_of(self, block: bytes) -> float:
        """Return the share of the requests that have *block*."""
        return self._block_counts[block] / len(self._given) if self._given else 0.0

    def add(self, account: Account, waiting: Waiting, missed_tokens: float, now: float) -> None:
        seconds = missed_tokens * account.speed.seconds_per_token + _decode_seconds(account, now)
        given = _Given(now, account.worker.worker_id, seconds, waiting.request.key.blocks)
        self._given.append(given)
        self._seconds[given.worker_id] += seconds
        self._block_counts.update(given.blocks)

    def forget_before(self, moment: float) -> None:
        while self._given and self._given[0].at < moment:
            old = self._given.popleft()
            self._seconds[old.worker_id] -= old.seconds
            for block in old.blocks:
                self._block_counts[block] -= 1
                if not self._block_counts[block]:
                    del self._block_counts[block]


def _decode_seconds(account: Account, now: float) -> float:
    """Return what a request of average length takes to be decoded, if that is done there too; its
    step is shared with the others of the batch."""
    if not account.worker.role.decodes:
        return 0.0
    batch = account.batch
    step_seconds = account.step_times.predict(batch.count + 1, batch.context_tokens, now)
    return account.statistics.output_lengths.predict(None) * step_seconds / (batch.count + 1)


class ByHitGroup:
    """Preble's order at a worker: the larger the cached share of the prompt, the more often.

    Invariant: everybody waits in exactly one of ``_groups``, the last of which has the largest
    share; ``_turns`` is how many of each may still go in this round.
    """

    def __init__(self) -> None:
        self._groups: list[dict[int, Waiting]] = [{} for _ in range(GROUP_COUNT)]
        self._group_of: dict[int, int] = {}
        self._turns = _new_round()
        self._seconds = 0.0

    @property
    def ahead_seconds(self) -> float:
        return self._seconds if self._group_of else 0.0

    def other_seconds(self, waiting: Waiting) -> float:
        return self._seconds - waiting.seconds

    def __len__(self) -> int:
        return len(self._group_of)

    def add(self, waiting: Waiting, now: float) -> None:
        cached_share = 1 - waiting.uncached_tokens / waiting.prompt_tokens
        group = min(max(int(cached_share * GROUP_COUNT), 0), GROUP_COUNT - 1)
        self._groups[group][waiting.serial] = waiting
        self._group_of[waiting.serial] = group
        self._seconds += waiting.seconds

    def remove(self, waiting: Waiting) -> None:
        group = self._group_of.pop(waiting.serial)
        del self._groups[group][waiting.serial]
        self._seconds = self._seconds - waiting.seconds if self._group_of else 0.0
        self._turns[group] -= 1

    def next(self, starts_at: float) -> Waiting | None:
        if not self._group_of:
            return None
        while True:
            for group, turns in zip(reversed(self._groups), reversed(self._turns), strict=True):
                if group and turns > 0:
                    return next(iter(group.values()))
            self._turns = _new_round()

    def everyone(self) -> Iterable[Waiting]:
        for group in self._groups:
            yield from group.values()

    def late(self) -> list[Waiting]:
        return []

    def longest_late(self) -> Waiting | None:
        return None


def _new_round() -> list[int]:
    return list(range(1, GROUP_COUNT + 1))
