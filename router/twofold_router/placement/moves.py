"""Waiting requests that change their worker. Nothing was sent yet, so a move costs nothing."""

import itertools
from collections.abc import Iterator
from typing import ClassVar, NamedTuple, Protocol

from twofold_router.placement.accounts import Account
from twofold_router.placement.choice import RECOMPUTING_WEIGHT
from twofold_router.placement.waiting import Waiting

BATCH_COUNT = 64
"""Waiting requests of a queue looked at for one event, so that its cost is bounded; DualMap's paper
names no bound."""


class Move(NamedTuple):
    """*waiting* had better wait at *to*."""

    waiting: Waiting
    to: Account


class Rebalance(Protocol):
    """Finds moves. They must be carried out one by one, each before the next is asked for; those
    who are served meanwhile are left out."""

    moves_on_arrival: ClassVar[bool]
    """False: nobody moves because somebody has come."""

    def arrived(self, waiting: Waiting, now: float) -> Iterator[Move]:
        """Return the moves that pay after *waiting* has come to its queue."""
        ...

    def has_room(self, account: Account, now: float) -> Iterator[Move]:
        """Return the moves that pay because *account* has room and nobody to fill it."""
        ...


class Stay:
    """Nobody moves."""

    moves_on_arrival: ClassVar[bool] = False

    def arrived(self, waiting: Waiting, now: float) -> Iterator[Move]:
        return iter(())

    def has_room(self, account: Account, now: float) -> Iterator[Move]:
        return iter(())


class BatchRebalance:
    """DualMap's: when both homes of an arrival are overloaded, those who gain most move.

    arXiv 2602.06502, "hotspot-aware rebalancing": by descending benefit (the ttft at the source
    less that at the other home), while it is positive and the target stays within the SLO; one
    batch, which sets off no other.
    """

    moves_on_arrival: ClassVar[bool] = True

    def __init__(
        self, theta_seconds: float, slo_seconds: float, patience_seconds: float = 3.0
    ) -> None:
        """A queue whose oldest has waited for *patience_seconds* is overloaded as well."""
        self._theta_seconds = theta_seconds
        self._slo_seconds = slo_seconds
        self._patience_seconds = patience_seconds

    def arrived(self, waiting: Waiting, now: float) -> Iterator[Move]:
        pair = waiting.candidates
        if len(pair) < 2 or not all(self._is_overloaded(home, now) for home in pair):
            return
        benefits = []
        for source in pair:
            for other in itertools.islice(source.queue.everyone(), BATCH_COUNT):
                benefits += [(self._benefit(other, to, now), other.serial, other, to)
                             for to in other.candidates if to is not source]  # fmt: skip
        for _, _, other, to in sorted(benefits, key=lambda entry: (-entry[0], entry[1])):
            # What came of the moves before may have changed what this one is worth, or served it.
            pays = other.at is not None and self._benefit(other, to, now) > 0
            if pays and to.ttft_seconds(other, now) <= self._slo_seconds:
                yield Move(other, to)

    def has_room(self, account: Account, now: float) -> Iterator[Move]:
        return iter(())

    def _is_overloaded(self, account: Account, now: float) -> bool:
        pending_tokens = account.queued_tokens * account.speed.seconds_per_token
        if account.free_at(now) - now + pending_tokens > self._theta_seconds:
            return True
        oldest = next(iter(account.queue.everyone()), None)
        return oldest is not None and now - oldest.request.arrived_at > self._patience_seconds

    def _benefit(self, waiting: Waiting, to: Account, now: float) -> float:
        source = waiting.at
        assert source is not None
        if source is to:
            return 0.0
        here = source.free_at(now) - now + source.queued_tokens * source.speed.seconds_per_token
        return here - to.ttft_seconds(waiting, now)


class CostRebalance:
    """Ours: a worker with room takes over whoever gains by it, of those whose home it is too.

    The cost is that of the choice: ``wait + (1 + w) * uncached time``, and the answer's time where
    it is decoded there.
    """

    moves_on_arrival: ClassVar[bool] = False

    def __init__(self, recomputing_weight: float = RECOMPUTING_WEIGHT) -> None:
        self._weight = recomputing_weight

    def arrived(self, waiting: Waiting, now: float) -> Iterator[Move]:
        return iter(())

    def has_room(self, account: Account, now: float) -> Iterator[Move]:
        best: Waiting | None = None
        best_gain = 0.0
        for guest in itertools.islice(account.guests.values(), BATCH_COUNT):
            gain = self._gain(guest, account, now)
            if gain > best_gain:
                best, best_gain = guest, gain
        if best is not None:
            yield Move(best, account)

    def _gain(self, guest: Waiting, to: Account, now: float) -> float:
        source = guest.at
        assert source is not None
        work_tokens = to.work_tokens(guest, to.uncached_tokens_in_turn(guest))
        computing = work_tokens * to.speed.seconds_per_token
        there = to.wait_seconds(now) + (1 + self._weight) * computing
        wait = source.free_at(now) - now + source.queue.other_seconds(guest)
        slower = to.answer_seconds(guest, now) - source.answer_seconds(guest, now)
        return wait + (1 + self._weight) * guest.seconds - there - slower
