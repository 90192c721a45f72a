"""The placement as a state machine: it owns all counts, and asks the policy."""

import itertools
import random
from collections.abc import Iterable

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.worker import Worker
from twofold_router.placement import refusals
from twofold_router.placement.accounts import Account
from twofold_router.placement.decoding import DecodeSide
from twofold_router.placement.expiry import Expiry
from twofold_router.placement.fairness import Shares
from twofold_router.placement.holdings import Holding
from twofold_router.placement.interface import (
    BlocksChange,
    Decision,
    Dispatch,
    Mode,
    Outcome,
    PlacementRequest,
    PlacementSettings,
    PlacementSnapshot,
    PromptUsage,
    Reason,
)
from twofold_router.placement.learning import learn_outcome, learn_prompt
from twofold_router.placement.moves import Move
from twofold_router.placement.policy import MakePolicy
from twofold_router.placement.pools import Pool
from twofold_router.placement.prefix_sources import find_source
from twofold_router.placement.queue_bound import QueueBound
from twofold_router.placement.waiting import Waiting
from twofold_router.placement.workforce import Change, Workforce

# Leg 1 was done, or the worker does not speak our protocol: computing it again is no policy of
# what to do without a prefill worker.
_NOT_FOR_WANT_OF_PREFILL = (
    Reason.INVALID_PARAMS,
    Reason.DECODE_REFUSED,
    Reason.TRANSFER_FAILED,
    Reason.STREAM_CUT,
)


class Placer:
    """Implements Placement for any policy.

    Invariant: a request that was submitted is in ``_waiting`` (and in the queue of exactly one
    account, in ``_bound`` and in ``_deadlines``) or in ``_holdings``, never in both, until it was
    refused, withdrawn or finished. After every event nobody waits at a worker that has room for it.
    """

    def __init__(self, make_policy: MakePolicy, settings: PlacementSettings) -> None:
        rng = random.Random(settings.seed)  # noqa: S311 - breaks ties, guards nothing
        self._settings = settings
        self._shares = Shares()
        self._policy = make_policy(settings, self._shares, rng)
        self._workforce = Workforce(self._policy.make_queue, disaggregate=settings.disaggregate)
        self._pools = self._workforce.pools
        self._decode_side = DecodeSide(rng)
        self._waiting: dict[str, Waiting] = {}
        self._holdings: dict[str, Holding] = {}
        self._bound = QueueBound(settings.max_queued)
        self._deadlines = Expiry()
        self._prefill_ends = Expiry()
        self._serial = itertools.count(1)
        self._moved_count = 0

    # What happens to workers

    def workers_changed(self, workers: Iterable[Worker], now: float) -> list[Decision]:
        return self._settle(self._workforce.update(workers, now), now)

    def workers_gone(self, worker_ids: Iterable[WorkerId], now: float) -> list[Decision]:
        return self._settle(self._workforce.forget(worker_ids), now)

    def blocks_changed(
        self, worker_id: WorkerId, incarnation: Incarnation, change: BlocksChange
    ) -> None:
        account = self._workforce.accounts.get(worker_id)
        if account is not None and account.worker.incarnation == incarnation:
            account.blocks.take_in(change)

    def _settle(self, change: Change, now: float) -> list[Decision]:
        """Find places for the homeless and work for those who joined. Nobody else moves."""
        decisions: list[Decision] = []
        for waiting in sorted(change.homeless, key=lambda waiting: waiting.serial):
            self._stop_waiting(waiting.request)
            decisions += self._place(waiting, now)
        self._introduce(change.joined)
        for account in change.joined:
            decisions += self._fill(account, now)
        return decisions

    def _introduce(self, joined: list[Account]) -> None:
        """Let those who wait elsewhere know of new homes of their keys."""
        newcomers = {account.worker.worker_id: account for account in joined}
        for waiting in self._waiting.values() if newcomers else ():
            pool = self._prefill_pool(waiting.request)
            if pool is None or waiting.key is None:
                continue
            for home in pool.homes(waiting.key, len(waiting.candidates)):
                worker_id = home.worker.worker_id
                is_new = newcomers.get(worker_id) is home and home not in waiting.candidates
                if is_new and worker_id not in waiting.request.avoid:
                    home.invite(waiting)

    # What happens to requests

    def submit(self, request: PlacementRequest, now: float) -> list[Decision]:
        request_id = request.request_id
        assert request_id not in self._waiting, request_id
        assert request_id not in self._holdings, request_id
        statistics = self._pools.statistics(request.model)
        size_bytes = request.key.size_bytes
        prompt_tokens = statistics.bytes_per_token.tokens(size_bytes) if statistics else 1.0
        slo_seconds = self._settings.ttft_slo_seconds
        waiting = Waiting(request, prompt_tokens, slo_seconds, next(self._serial))
        self._waiting[request_id] = waiting
        return self._place(waiting, now)

    def withdraw(self, request_id: str, now: float) -> list[Decision]:
        account = self._leave_queue(self._waiting.pop(request_id))
        # It may have stood before somebody who fits where it did not.
        return self._fill(account, now)

    def prefilled(self, request_id: str, usage: PromptUsage | None, now: float) -> list[Decision]:
        holding = self._holdings[request_id]
        self._prefill_ends.discard(request_id)
        account = holding.computed_at
        seconds = account.end_prefill(request_id, now)
        if seconds is None:
            # The place was given back by time: here is how long it really took.
            seconds = now - max(holding.began_at, account.told_at)
        account.told_at = now
        self._learn_prompt(holding, usage, seconds, now)
        self._decode_side.begin(holding, now)
        return self._fill(account, now)

    def move_decode(
        self, request_id: str, avoid: frozenset[WorkerId], now: float
    ) -> tuple[Worker | None, list[Decision]]:
        holding = self._holdings[request_id]
        source = holding.source
        name = holding.waiting.request.model
        pool = self._pools.partners(source.worker, name) if source else self._pools.decode(name)
        account = self._decode_side.choose(pool, holding.waiting, source, avoid, now)
        if account is None:
            return None, []
        self._decode_side.leave(holding, now)
        self._decode_side.join(holding, account, now)
        if source is not None:
            return account.worker, []
        old = holding.computed_at
        old.end_prefill(request_id, now)
        holding.compute_at(account)
        self._begin_prefill(holding, now)
        return account.worker, self._fill(old, now)

    def finished(self, request_id: str, outcome: Outcome | None, now: float) -> list[Decision]:
        holding = self._holdings.pop(request_id)
        self._prefill_ends.discard(request_id)
        holding.computed_at.end_prefill(request_id, now)
        self._decode_side.leave(holding, now)
        if outcome is not None:
            if outcome.usage is not None or not holding.is_learned:
                self._learn_prompt(holding, outcome.usage, None, now)
            learn_outcome(holding, outcome, now)
            self._shares.serve(holding.waiting.request.tenant, outcome.output_tokens, now)
        return self._fill(holding.computed_at, now)

    def tick(self, now: float) -> list[Decision]:
        decisions: list[Decision] = []
        freed: list[Account] = []
        for request_id in self._deadlines.due(now):
            waiting = self._waiting[request_id]
            if now >= waiting.request.deadline_at:
                del self._waiting[request_id]
                freed.append(self._leave_queue(waiting))
                decisions.append(refusals.for_long_wait(waiting.request))
            elif now >= waiting.gives_up_at:
                assert waiting.at is not None, request_id
                freed.append(waiting.at)
                decisions.append(self._refuse_late(waiting, now))
            else:  # it has moved to where it has more time
                self._deadlines.add(waiting.gives_up_at, request_id)
        for request_id in self._prefill_ends.due(now):
            account = self._holdings[request_id].computed_at
            account.end_prefill(request_id, now)
            freed.append(account)
        for account in freed:
            decisions += self._fill(account, now)
        return decisions

    def snapshot(self) -> PlacementSnapshot:
        return PlacementSnapshot(
            queued=len(self._waiting),
            in_flight=len(self._holdings),
            moved=self._moved_count,
            workers=tuple(account.counts() for account in self._workforce.accounts.values()),
        )

    # Places

    def _place(self, waiting: Waiting, now: float) -> list[Decision]:
        """Decide about *waiting*, who is in no queue, or have it wait."""
        request = waiting.request
        pool = self._prefill_pool(request)
        if pool is not None:
            holder = self._holder(waiting, now)
            if holder is not None:
                return [self._dispatch_together(waiting, holder, None, now)]
        else:
            reason = request.cause or self._why_together(request)
            pool = self._pools.decode(request.model)
            # Whom a worker has failed was let in before, and has waited.
            is_urgent = request.cause is not None
            if is_urgent or not _has_use(pool, request) or self._is_refused(reason):
                return [self._on_one_worker(waiting, reason, now)]
        assert pool is not None
        waiting.candidates, account = self._policy.choose(waiting, pool, now)
        if self._goes_at_once(request, account):
            return [self._start(waiting, account, now), *self._fill(account, now)]
        return self._enqueue(waiting, account, now)

    def _goes_at_once(self, request: PlacementRequest, account: Account) -> bool:
        """Tell whether the queue of *account* would only be a way round: nobody is there, and
        *request* is neither refused for being late nor makes others move."""
        is_idle = not account.unprefilled_tokens and not account.queued_tokens
        return is_idle and not request.refuse_late and not self._policy.rebalance.moves_on_arrival

    def _prefill_pool(self, request: PlacementRequest) -> Pool | None:
        """Return the workers that may compute its prompt first, None if there are none or that has
        to be where the answer is decoded."""
        if self._settings.disaggregate and not request.separable:
            return None
        pool = self._pools.prefill(request.model)
        return pool if _has_use(pool, request) else None

    def _why_together(self, request: PlacementRequest) -> Reason | None:
        """Say why a decode worker does both phases, None if that is by choice."""
        is_apart = self._settings.disaggregate and request.separable
        return Reason.NO_PREFILL_WORKER if is_apart else None

    def _is_refused(self, reason: Reason | None) -> bool:
        """Tell whether a request is refused rather than served by one worker for *reason*."""
        wants_prefill = reason is not None and reason not in _NOT_FOR_WANT_OF_PREFILL
        return wants_prefill and self._settings.on_no_prefill == "fail"

    def _holder(self, waiting: Waiting, now: float) -> Account | None:
        """Return the decode worker that would compute so little of the prompt that a transfer costs
        more than it saves, None if there is none (DESIGN, step 5)."""
        request = waiting.request
        least = self._settings.min_uncached_tokens
        if not least or request.cause is not None:
            return None
        pool = self._pools.decode(request.model)
        account = self._decode_side.choose(pool, waiting, None, request.avoid, now)
        return account if account and account.uncached_tokens(waiting) < least else None

    def _enqueue(self, waiting: Waiting, account: Account, now: float) -> list[Decision]:
        account.enqueue(waiting, now)
        decisions: list[Decision] = []
        for move in self._policy.rebalance.arrived(waiting, now):
            source = self._move(move, now)
            decisions += self._fill(move.to, now) + self._fill(source, now)
        if waiting.at is not None:
            decisions += self._fill(waiting.at, now)
        if waiting.at is not None:
            self._bound.enter(waiting.request)
            self._deadlines.add(waiting.gives_up_at, waiting.request.request_id)
            victim = self._victim(waiting.at)
            decisions += self._turn_away(victim, now) if victim else []
        return decisions

    def _victim(self, account: Account) -> Waiting | None:
        """Name the one whom the full queue cannot hold, None while it is not full. Who is late at
        *account* already goes before somebody as important who can still be on time."""
        victim_id = self._bound.victim()
        if victim_id is None:
            return None
        victim = self._waiting[victim_id]
        late = account.queue.longest_late()
        is_less = late is not None and late.request.priority <= victim.request.priority
        return late if is_less else victim

    def _move(self, move: Move, now: float) -> Account:
        """Carry out *move*; return where that makes room."""
        source = move.waiting.at
        assert source is not None
        source.dequeue(move.waiting)
        move.to.enqueue(move.waiting, now)
        self._moved_count += 1
        return source

    def _fill(self, account: Account, now: float) -> list[Decision]:
        """Have *account* serve its queue; if that is empty, those who gain by coming here."""
        decisions = self._serve_queue(account, now)
        while not account.queue and account.is_ready and self._has_room(account):
            move = next(self._policy.rebalance.has_room(account, now), None)
            if move is None:
                break
            source = self._move(move, now)
            decisions += self._serve_queue(account, now) + self._serve_queue(source, now)
        return decisions

    def _serve_queue(self, account: Account, now: float) -> list[Decision]:
        """Dispatch to *account* while it has room for the next of its queue, and refuse those who
        would rather be refused than late."""
        decisions: list[Decision] = []
        queue = account.queue
        while queue:
            waiting = queue.next(account.free_at(now)) if self._has_room(account) else None
            unwilling = [late for late in queue.late() if late.request.refuse_late]
            if unwilling:
                decisions += [self._refuse_late(late, now) for late in unwilling]
            elif waiting is not None and self._fits(account, waiting):
                self._leave_queue(waiting)
                decisions.append(self._start(waiting, account, now))
            else:
                break
        return decisions

    def _has_room(self, account: Account) -> bool:
        most = self._policy.max_unprefilled
        if most is not None and len(account.unprefilled) >= most:
            return False
        return account.unprefilled_tokens < self._settings.max_unprefilled_tokens

    def _fits(self, account: Account, waiting: Waiting) -> bool:
        tokens = account.unprefilled_tokens + waiting.uncached_tokens
        return not account.unprefilled or tokens <= self._settings.max_unprefilled_tokens

    def _start(self, waiting: Waiting, account: Account, now: float) -> Decision:
        """Dispatch *waiting*, whose turn it is at *account*, and who is in no queue."""
        request = waiting.request
        role = account.worker.role
        if role.decodes:
            reason = None if role.prefills else self._why_together(request)
            return self._dispatch_together(waiting, account, reason, now)
        partners = self._pools.partners(account.worker, request.model)
        decode = self._decode_side.choose(partners, waiting, account, request.avoid, now)
        if decode is None:
            return self._on_one_worker(waiting, request.cause or Reason.NO_PREFILL_WORKER, now)
        return self._dispatch(waiting, account, decode, Mode.DISAGGREGATED, None, now)

    def _on_one_worker(self, waiting: Waiting, reason: Reason | None, now: float) -> Decision:
        """Have a worker that decodes compute the prompt as well, whatever it has to do."""
        request = waiting.request
        if self._is_refused(reason):
            del self._waiting[request.request_id]
            return refusals.for_want_of_prefill(request)
        pool = self._pools.decode(request.model)
        account = self._decode_side.choose(pool, waiting, None, request.avoid, now)
        if account is None:
            del self._waiting[request.request_id]
            return refusals.for_want_of_decode(request)
        return self._dispatch_together(waiting, account, reason, now)

    def _dispatch_together(
        self, waiting: Waiting, account: Account, reason: Reason | None, now: float
    ) -> Dispatch:
        """Have *account* do both phases: by need, if there is a *reason*."""
        mode = Mode.AGGREGATED if reason is None else Mode.FALLBACK
        return self._dispatch(waiting, account, account, mode, reason, now)

    def _dispatch(
        self,
        waiting: Waiting,
        computed_at: Account,
        decode: Account,
        mode: Mode,
        reason: Reason | None,
        now: float,
    ) -> Dispatch:
        request_id = waiting.request.request_id
        del self._waiting[request_id]
        holding = self._holdings[request_id] = Holding(waiting, computed_at, decode)
        if holding.source is not None and self._settings.prefix_pull:
            holding.prefix_source = find_source(waiting, computed_at, holding.cached_tokens)
        self._begin_prefill(holding, now)
        self._decode_side.join(holding, decode, now)
        return Dispatch(
            request_id=request_id,
            prefill=computed_at.worker if holding.source else None,
            decode=decode.worker,
            mode=mode,
            reason=reason,
            prompt_tokens=waiting.prompt_tokens,
            cached_tokens=holding.cached_tokens,
            ttft_seconds=holding.ttft_seconds,
            decided_at=now,
            prefix_source=holding.prefix_source,
        )

    def _begin_prefill(self, holding: Holding, now: float) -> None:
        """Take a place for the prefill where it is computed."""
        account = holding.computed_at
        waiting = holding.waiting
        request_id = waiting.request.request_id
        holding.began_at = now
        tokens = holding.uncached_tokens
        if holding.prefix_source is not None:
            tokens = account.work_tokens(waiting, tokens)
        account.start_prefill(request_id, tokens, now, waiting.request.key.blocks)
        ends_at = account.free_at(now)
        holding.ttft_seconds = ends_at - now
        if holding.source is None:
            # Nobody may tell: an answer in one piece says nothing before its end.
            self._prefill_ends.add(ends_at, request_id)

    def _learn_prompt(
        self, holding: Holding, usage: PromptUsage | None, seconds: float | None, now: float
    ) -> None:
        computed_tokens = learn_prompt(holding, usage, seconds)
        if not holding.is_learned:
            self._shares.serve(holding.waiting.request.tenant, computed_tokens, now)
        holding.is_learned = True

    def _refuse_late(self, waiting: Waiting, now: float) -> Decision:
        account = self._leave_queue(waiting)
        del self._waiting[waiting.request.request_id]
        return refusals.for_lateness(waiting.request, account.wait_seconds(now))

    def _leave_queue(self, waiting: Waiting) -> Account:
        """Take *waiting* out of its queue, and return where it stood."""
        account = waiting.at
        assert account is not None, waiting.request.request_id
        account.dequeue(waiting)
        self._stop_waiting(waiting.request)
        return account

    def _stop_waiting(self, request: PlacementRequest) -> None:
        self._bound.leave(request)
        self._deadlines.discard(request.request_id)

    def _turn_away(self, waiting: Waiting, now: float) -> list[Decision]:
        """Decide about one whom the full queue does not hold. One that was let in before is not
        refused for it: it goes on with what is left."""
        request = waiting.request
        queued = len(self._bound) - 1
        account = self._leave_queue(waiting)
        if request.cause is not None:
            decision = self._on_one_worker(waiting, request.cause, now)
        else:
            del self._waiting[request.request_id]
            decision = refusals.for_full_queue(request, queued, account.wait_seconds(now))
        # It may have stood before somebody who fits where it did not.
        return [decision, *self._fill(account, now)]


def _has_use(pool: Pool | None, request: PlacementRequest) -> bool:
    """Tell whether *pool* has a worker that *request* does not avoid."""
    return pool is not None and not (request.avoid and request.avoid.issuperset(pool.by_id))
