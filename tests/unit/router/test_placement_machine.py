"""Whatever happens in whatever order: nobody is lost, and all counts are given back."""

import itertools

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    Placement,
    PlacementRequest,
    PlacementSettings,
    Reason,
)
from twofold_router.testing import MODEL, make_worker

ROLES = st.sampled_from(list(Role))


class PlacementMachine(RuleBasedStateMachine):
    """Keeps its own account of who waits and who goes, and compares."""

    policy = "least-loaded"

    def __init__(self) -> None:
        super().__init__()
        self.place: Placement = POLICIES[self.policy](
            PlacementSettings(max_queued=3, max_unprefilled=2)
        )
        self.workers: dict[str, Worker] = {}
        self.waiting: dict[str, PlacementRequest] = {}
        self.going: dict[str, Dispatch] = {}
        self.unprefilled: set[str] = set()
        self.now = 0.0
        self.serial = itertools.count()

    def learn(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            request = self.waiting.pop(decision.request_id)  # KeyError: decided twice
            if isinstance(decision, Dispatch):
                self.check(decision, request)
                self.going[decision.request_id] = decision
                if decision.prefill is not None:
                    self.unprefilled.add(decision.request_id)

    def check(self, decision: Dispatch, request: PlacementRequest) -> None:
        for worker in (decision.prefill, decision.decode):
            if worker is not None:
                assert worker == self.workers[worker.worker_id]
                assert worker.state is WorkerState.READY
                assert worker.worker_id not in request.avoid
        assert decision.decode.role.decodes
        if decision.prefill is not None:
            assert decision.prefill.role.prefills
            assert decision.prefill.worker_id != decision.decode.worker_id
            assert decision.prefill.revision == decision.decode.revision

    def tell_workers(self) -> None:
        self.learn(self.place.set_workers(list(self.workers.values()), self.now))

    @rule(number=st.integers(0, 4), role=ROLES, revision=st.sampled_from(["r1", "r2"]))
    def join_or_restart(self, number: int, role: Role, revision: str) -> None:
        incarnation = str(next(self.serial))
        name = f"w{number}"
        self.workers[name] = make_worker(name, role, incarnation=incarnation, revision=revision)
        self.tell_workers()

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), drains=st.booleans())
    def leave_or_drain(self, data: st.DataObject, drains: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.workers)))
        worker = self.workers.pop(name)
        if drains:
            self.workers[name] = msgspec.structs.replace(worker, state=WorkerState.DRAINING)
        self.tell_workers()

    @rule(
        separable=st.booleans(),
        avoid=st.frozensets(st.sampled_from(["w0", "w1"])),
        cause=st.sampled_from([None, Reason.PREFILL_FAILED]),
        patience=st.integers(1, 50),
    )
    def submit(
        self, separable: bool, avoid: frozenset[str], cause: Reason | None, patience: int
    ) -> None:
        name = f"r{next(self.serial)}"
        request = PlacementRequest(
            request_id=name,
            model=MODEL,
            prompt_bytes=1,
            separable=separable,
            arrived_at=self.now,
            deadline_at=self.now + patience,
            avoid=frozenset(self.workers[name].worker_id for name in avoid & self.workers.keys()),
            cause=cause,
        )
        self.waiting[name] = request
        self.learn(self.place.submit(request, self.now))

    @precondition(lambda self: self.unprefilled)
    @rule(data=st.data())
    def end_leg_1(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.unprefilled)))
        self.unprefilled.discard(name)
        self.learn(self.place.prefilled(name, self.now))

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.finish_one(data.draw(st.sampled_from(sorted(self.going))))

    def finish_one(self, name: str) -> None:
        del self.going[name]
        self.unprefilled.discard(name)
        self.learn(self.place.finished(name, self.now))

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.going)))
        old = self.going[name].decode
        new = self.place.move_decode(name, frozenset({old.worker_id}), self.now)
        if new is not None:
            assert new.worker_id != old.worker_id
            self.going[name] = Dispatch(name, self.going[name].prefill, new, self.going[name].mode)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[name]
        self.learn(self.place.withdraw(name, self.now))

    @rule(seconds=st.integers(0, 20))
    def expire(self, seconds: int) -> None:
        self.now += seconds
        self.learn(self.place.expire(self.now))
        assert all(request.deadline_at > self.now for request in self.waiting.values())

    @invariant()
    def counts_are_those_of_the_requests(self) -> None:
        snapshot = self.place.snapshot()
        assert snapshot.queued == len(self.waiting) <= 3
        assert snapshot.in_flight == len(self.going)
        lives = {(worker.worker_id, worker.incarnation) for worker in self.workers.values()}
        assert len(snapshot.workers) == len(lives)
        for counts in snapshot.workers:
            worker = self.workers[counts.worker_id]
            decoding = [d for d in self.going.values() if same_life(d.decode, worker)]
            prefilling = [d for n, d in self.going.items() if n in self.unprefilled]
            assert counts.decoding == len(decoding)
            assert counts.unprefilled == sum(same_life(d.prefill, worker) for d in prefilling)
            assert counts.unprefilled <= 2

    def teardown(self) -> None:
        while self.going or self.waiting:
            for name in list(self.going):
                self.finish_one(name)
            if not self.going:
                # Nobody may wait for a worker that nobody keeps busy.
                assert not self.waiting
        snapshot = self.place.snapshot()
        assert (snapshot.queued, snapshot.in_flight) == (0, 0)
        assert all(counts.decoding == counts.unprefilled == 0 for counts in snapshot.workers)


def same_life(one: Worker | None, other: Worker) -> bool:
    return one is not None and (one.worker_id, one.incarnation) == (
        other.worker_id,
        other.incarnation,
    )


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_nobody_is_lost_and_all_counts_are_given_back(policy: str) -> None:
    class Machine(PlacementMachine):
        pass

    Machine.policy = policy
    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(max_examples=80, stateful_step_count=40, deadline=None),
    )
