"""Whatever happens in whatever order: nobody is lost, and all counts are given back."""

import itertools
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from twofold_cluster.identity import Role
from twofold_cluster.prompt_key import PromptKey
from twofold_cluster.worker import Load, Worker, WorkerState
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    Mode,
    Outcome,
    PlacementRequest,
    PlacementSettings,
    Placer,
    PromptUsage,
    Reason,
)
from twofold_router.placement.accounts import Account
from twofold_router.placement.testing import make_key, make_request
from twofold_router.testing import make_worker

MAX_QUEUED = 4
ROLES = st.sampled_from(list(Role))
TUNED = "tuned"
ADAPTERS = st.sampled_from([(), (TUNED,)])
NAMES = st.integers(0, 4).map("w{}".format)
KEYS = st.builds(
    lambda blocks, rest: make_key(*blocks, rest_tokens=rest, block_tokens=16),
    st.lists(st.integers(0, 1), max_size=6),
    st.sampled_from([1, 15]),
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "separable": st.just(False),
        "avoid": st.frozensets(st.sampled_from(["w0", "w1"])),
        "cause": st.just(Reason.PREFILL_FAILED),
        "priority": st.just(1),
        "tenant": st.sampled_from(["a", "b"]),
        "refuse_late": st.just(True),
        "model": st.just(TUNED),
    },
)
USAGES = st.sampled_from([None, PromptUsage(40), PromptUsage(70, 0), PromptUsage(96, 64)])
SETTINGS = PlacementSettings(
    max_queued=MAX_QUEUED,
    max_unprefilled_tokens=60,
    min_uncached_tokens=8,
    # What a prompt of the longest takes, and 0.02 s more: somebody is always late.
    ttft_slo_seconds=0.04,
    overtaken_seconds=2.0,
)


class PlacementMachine(RuleBasedStateMachine):
    """Keeps its own account of who waits and who goes, and compares."""

    policy = "twofold"
    disaggregate = True

    def __init__(self) -> None:
        super().__init__()
        settings = msgspec.structs.replace(SETTINGS, disaggregate=self.disaggregate)
        self.place = Placer(POLICIES[self.policy], settings)
        self.workers: dict[str, Worker] = {}
        self.waiting: dict[str, PlacementRequest] = {}
        self.going: dict[str, Dispatch] = {}
        self.unprefilled: set[str] = set()
        self.now = 0.0
        self.serial = itertools.count(1)

    def learn(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            request = self.waiting.pop(decision.request_id)  # KeyError: decided twice
            if isinstance(decision, Dispatch):
                self.check(decision, request)
                self.going[decision.request_id] = decision
                self.unprefilled.add(decision.request_id)

    def check(self, decision: Dispatch, request: PlacementRequest) -> None:
        for worker in (decision.prefill, decision.decode):
            if worker is not None:
                assert worker == self.workers[worker.worker_id]
                assert worker.worker_id not in request.avoid
                assert request.model in worker.names
        states = {WorkerState.READY, WorkerState.STANDBY if decision.prefill else None}
        assert decision.decode.state in states
        assert decision.decode.role.decodes
        assert (decision.mode is Mode.DISAGGREGATED) == (decision.prefill is not None)
        assert (decision.mode is Mode.FALLBACK) == (decision.reason is not None)
        assert 0 <= decision.cached_tokens <= decision.prompt_tokens - 1
        if decision.prefill is not None:
            assert request.separable
            assert self.disaggregate
            assert decision.prefill.role is Role.PREFILL
            assert decision.prefill.state is WorkerState.READY
            assert decision.prefill.revision == decision.decode.revision

    @initialize()
    def start(self) -> None:
        """Have somebody to wait for, so that most of the steps are about those who wait."""
        roles = {"w0": Role.PREFILL, "w1": Role.PREFILL, "w2": Role.PREFILL, "w3": Role.DECODE}
        self.workers = {
            name: make_worker(
                name, role, incarnation="0", revision="r1", capacity=200, adapters=(TUNED,)
            )
            for name, role in roles.items()
        }
        self.learn(self.place.workers_changed(self.workers.values(), self.now))

    @rule(
        name=NAMES,
        role=ROLES,
        revision=st.sampled_from(["r1", "r2"]),
        same_life=st.booleans(),
        adapters=ADAPTERS,
        state=st.sampled_from([WorkerState.READY, WorkerState.STANDBY]),
    )
    def join_or_restart_or_change(
        self,
        name: str,
        role: Role,
        revision: str,
        same_life: bool,
        adapters: tuple[str, ...],
        state: WorkerState,
    ) -> None:
        old = self.workers.get(name)
        life = str(next(self.serial))
        if old is not None and same_life:
            life, revision = old.incarnation, old.revision
        made = make_worker(
            name,
            role,
            incarnation=life,
            revision=revision,
            capacity=200,
            adapters=adapters,
            state=state,
        )
        self.workers[name] = made
        self.learn(self.place.workers_changed([made], self.now))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), state=st.sampled_from(list(WorkerState)), used=st.sampled_from([0, 0.9]))
    def report(self, data: st.DataObject, state: WorkerState, used: float) -> None:
        """Drain, come back, or have another load."""
        name = data.draw(st.sampled_from(sorted(self.workers)))
        load = Load(kv_used_fraction=used, seconds_per_prefill_token=data.draw(SPEEDS))
        self.workers[name] = msgspec.structs.replace(self.workers[name], state=state, load=load)
        self.learn(self.place.workers_changed([self.workers[name]], self.now))

    @rule(names=st.sets(NAMES, max_size=3))
    def leave(self, names: set[str]) -> None:
        leaving = [make_worker(name, Role.BOTH).worker_id for name in sorted(names)]
        for name in names:
            self.workers.pop(name, None)
        self.learn(self.place.workers_gone(leaving, self.now))

    @rule(requests=st.lists(st.tuples(KEYS, st.integers(1, 50), CHANGES), min_size=1, max_size=4))
    def submit(self, requests: list[tuple[PromptKey, int, dict[str, Any]]]) -> None:
        for key, patience, changes in requests:
            name = f"r{next(self.serial)}"
            request = make_request(
                name, key=key, arrived_at=self.now, deadline_at=self.now + patience, **changes
            )
            self.waiting[name] = request
            self.learn(self.place.submit(request, self.now))
            if request.cause is not None and any(w.role.decodes for w in self.usable(request)):
                assert name in self.waiting or name in self.going or request.refuse_late

    def usable(self, request: PlacementRequest) -> list[Worker]:
        ready = [w for w in self.workers.values() if w.state is WorkerState.READY]
        able = [worker for worker in ready if request.model in worker.names]
        return [worker for worker in able if worker.worker_id not in request.avoid]

    @precondition(lambda self: self.unprefilled)
    @rule(data=st.data(), usage=USAGES)
    def end_prefill(self, data: st.DataObject, usage: PromptUsage | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.unprefilled)))
        self.unprefilled.discard(name)
        self.learn(self.place.prefilled(name, usage, self.now))

    @precondition(lambda self: self.going)
    @rule(data=st.data(), usage=USAGES, is_whole=st.booleans())
    def finish(self, data: st.DataObject, usage: PromptUsage | None, is_whole: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.going)))
        outcome = Outcome(output_tokens=5, decode_seconds=0.1, usage=usage)
        self.finish_one(name, outcome if is_whole else None)

    def finish_one(self, name: str, outcome: Outcome | None = None) -> None:
        del self.going[name]
        self.unprefilled.discard(name)
        self.learn(self.place.finished(name, outcome, self.now))

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.going)))
        old = self.going[name]
        avoid = frozenset({old.decode.worker_id})
        new, decisions = self.place.move_decode(name, avoid, self.now)
        self.learn(decisions)
        if new is not None:
            assert new == self.workers[new.worker_id] != old.decode
            assert old.prefill is None or new.revision == old.decode.revision
            assert new.state is WorkerState.READY or (old.prefill and not is_draining(new))
            self.going[name] = msgspec.structs.replace(old, decode=new)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[name]
        self.learn(self.place.withdraw(name, self.now))

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 1.0, 20.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.learn(self.place.tick(self.now))
        assert all(request.deadline_at > self.now for request in self.waiting.values())
        # What nobody tells of is given back by its predicted time.
        ends = self.place._prefill_ends._moments._ranks
        for name in itertools.chain(*(account.unprefilled for account in self.accounts())):
            assert self.place._holdings[name].source or ends[name] > self.now

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), change=st.sampled_from(["lost", "restarted"]))
    def lose_events(self, data: st.DataObject, change: Any) -> None:
        worker = self.workers[data.draw(st.sampled_from(sorted(self.workers)))]
        self.place.blocks_changed(worker.worker_id, worker.incarnation, change)

    def accounts(self) -> list[Account]:
        return list(self.place._workforce.accounts.values())

    @invariant()
    def everybody_is_counted_once(self) -> None:
        snapshot = self.place.snapshot()
        assert snapshot.queued == len(self.waiting) <= MAX_QUEUED
        assert len(self.place._bound) == len(self.place._deadlines) == len(self.waiting)
        assert snapshot.in_flight == len(self.going)
        assert self.place._prefill_ends._moments._ranks.keys() <= self.going.keys()
        queued = [w.request.request_id for a in self.accounts() for w in a.queue.everyone()]
        assert sorted(queued) == sorted(self.waiting)
        assert {counts.worker_id for counts in snapshot.workers} == self.workers.keys()

    @invariant()
    def each_account_counts_what_it_has(self) -> None:
        holdings = self.place._holdings
        for account in self.accounts():
            queued = sum(w.uncached_tokens for w in account.queue.everyone())
            assert account.queued_tokens == pytest.approx(queued)
            work = account.unprefilled.values()
            assert account.unprefilled_tokens == pytest.approx(sum(tokens for tokens, _ in work))
            computing: dict[bytes, int] = Counter(digest for _, blocks in work for digest in blocks)
            assert account.computing._counts == computing
            waiting = account.queue.everyone()
            awaited: dict[bytes, int] = Counter(
                digest for each in waiting for digest in each.request.key.blocks
            )
            assert account.queued._counts == awaited
            assert all(holdings[name].computed_at is account for name in account.unprefilled)
            decoding = [name for name, holding in holdings.items() if holding.decode is account]
            assert account.decoding == len(decoding)
            assert account.queue.ahead_seconds >= -1e-9

    @invariant()
    def leg_1_is_counted_until_it_is_over(self) -> None:
        for name, dispatch in self.going.items():
            computed_at = self.place._holdings[name].computed_at
            if dispatch.prefill is not None:
                assert (name in computed_at.unprefilled) == (name in self.unprefilled)

    @invariant()
    def guests_are_those_who_wait_elsewhere_and_may_come(self) -> None:
        accounts = self.accounts()
        expected: dict[str, set[str]] = {account.worker.worker_id: set() for account in accounts}
        for waiting in self.place._waiting.values():
            assert waiting.at in waiting.candidates
            for home in waiting.candidates:
                assert home.is_ready
                assert home in accounts
                if home is not waiting.at:
                    expected[home.worker.worker_id].add(waiting.request.request_id)
        for account in accounts:
            guests = {guest.request.request_id for guest in account.guests.values()}
            assert guests == expected[account.worker.worker_id]

    @invariant()
    def nobody_waits_at_an_idle_or_leaving_worker(self) -> None:
        for account in self.accounts():
            if account.queue:
                assert account.is_ready
                assert account.unprefilled

    @invariant()
    def mirrors_are_bounded(self) -> None:
        assert all(account.mirror.held_tokens <= 200 for account in self.accounts())

    def teardown(self) -> None:
        while self.going:
            for name in list(self.going):
                self.finish_one(name)
        assert not self.waiting  # nobody waits for a worker that nobody keeps busy
        for account in self.accounts():
            assert not account.unprefilled
            assert account.decoding == account.batch.count == 0


def is_draining(worker: Worker) -> bool:
    return worker.state is WorkerState.DRAINING


SPEEDS = st.sampled_from([None, 0.0001, 0.001])


@pytest.mark.parametrize("disaggregate", [True, False], ids=["phases-apart", "together"])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_nobody_is_lost_and_all_counts_are_given_back(policy: str, disaggregate: bool) -> None:
    class Machine(PlacementMachine):
        pass

    Machine.policy = policy
    Machine.disaggregate = disaggregate
    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(max_examples=15, stateful_step_count=40, deadline=None),
    )
