"""A desk elsewhere is as good as one here: the same decisions, and nothing is lost on the way."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Load, Worker, WorkerState
from twofold_router.gateway import Dispatcher
from twofold_router.gateway.tickets import Desk
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    Outcome,
    PlacementRequest,
    PlacementSettings,
    PromptUsage,
    Refuse,
    make_placement,
)
from twofold_router.placement.testing import make_key, make_request
from twofold_router.processes.messages import Suspect
from twofold_router.processes.testing import MemoryProcess
from twofold_router.testing import make_worker

MAX_QUEUED = 6
SETTINGS = PlacementSettings(
    max_queued=MAX_QUEUED, max_unprefilled_tokens=60, min_uncached_tokens=8
)
PROCESSES = 3

PICKS = st.integers(0, 1000)
KEYS = st.builds(
    lambda blocks: make_key(*blocks, rest_tokens=3, block_tokens=16),
    st.lists(st.integers(0, 1), max_size=6),
)
NAMES = st.integers(0, 4).map("w{}".format)
CHANGES = st.builds(
    lambda name, role, state, used: msgspec.structs.replace(
        make_worker(name, role, capacity=200, side_channel="h:1"),
        state=state,
        load=Load(kv_used_fraction=used),
    ),
    NAMES,
    st.sampled_from(Role),
    st.sampled_from([WorkerState.READY, WorkerState.READY, WorkerState.DRAINING]),
    st.sampled_from([0.0, 0.5]),
)
AT_FIRST = [
    make_worker("w0", Role.PREFILL, side_channel="h:1"),
    make_worker("w1", Role.PREFILL, side_channel="h:1"),
    make_worker("w2", Role.DECODE),
    make_worker("w3", Role.DECODE),
]
USAGES = st.sampled_from(
    [
        None,
        PromptUsage(40),
        PromptUsage(70, 0),
        PromptUsage(96, 64),
        PromptUsage(400, 200, 160, 0.001),
    ]
)
OUTCOMES = st.sampled_from([None, Outcome(5, 0.1, 0.4), Outcome(9, 0.2, 0.1, PromptUsage(50, 16))])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# One desk here, or several elsewhere


class Router:
    """A dispatcher, and the desks that its requests come from in turn."""

    def __init__(self, policy: str, *, is_remote: bool) -> None:
        self.clock = Clock()
        self.dispatcher = Dispatcher(make_placement(policy, SETTINGS), clock=self.clock)
        self.processes = (
            [MemoryProcess(n, self.dispatcher, self.clock) for n in range(1, PROCESSES + 1)]
            if is_remote
            else []
        )
        self.decisions: dict[str, Decision] = {}
        self.moves: list[Worker | None] = []
        self._of: dict[str, Desk] = {}
        self._serial = itertools.count()

    def desk_of(self, request_id: str) -> Desk:
        turn = next(self._serial)
        desk: Desk = self.processes[turn % PROCESSES].desk if self.processes else self.dispatcher
        return self._of.setdefault(request_id, desk)

    def settle(self) -> None:
        while any(each.to_placement or each.to_gateway for each in self.processes):
            for each in self.processes:
                each.settle()

    def follow(self, changed: Sequence[Worker], gone: Sequence[Worker]) -> None:
        self.dispatcher.follow(changed, gone)
        for each in self.processes:
            each.clerk.follow(changed, gone)

    async def move(self, request_id: str, avoid: frozenset[WorkerId]) -> None:
        move = asyncio.ensure_future(self.desk_of(request_id).move_decode(request_id, avoid))
        await asyncio.sleep(0)
        self.settle()
        self.moves.append(await move)


Step = tuple[str, Any]

STEPS = st.one_of(
    st.tuples(st.just("submit"), KEYS),
    st.tuples(st.just("submit"), KEYS),
    st.tuples(st.just("cancel"), PICKS),
    st.tuples(st.just("prefilled"), st.tuples(PICKS, USAGES)),
    st.tuples(st.just("finished"), st.tuples(PICKS, OUTCOMES)),
    st.tuples(st.just("move"), PICKS),
    st.tuples(st.just("changed"), st.lists(CHANGES, min_size=1, max_size=3)),
    st.tuples(st.just("gone"), NAMES),
    st.tuples(st.just("time"), st.sampled_from([0.01, 0.5, 3.0])),
)


async def drive(router: Router, steps: Sequence[Step]) -> None:
    """Do *steps*, and let each arrive before the next, as if no time passed between processes."""
    prefilled: set[str] = set()
    ended: set[str] = set()
    serial = itertools.count()

    def dispatched() -> list[str]:
        known = [n for n, each in router.decisions.items() if isinstance(each, Dispatch)]
        return sorted(each for each in known if each not in ended)

    waiting: list[str] = []

    def decide(decision: Decision) -> None:
        waiting.remove(decision.request_id)
        router.decisions[decision.request_id] = decision

    router.follow(AT_FIRST, [])
    for name, value in steps:
        going = dispatched()
        if name == "submit":
            request_id = f"r{next(serial)}"
            waiting.append(request_id)
            request = make_request(
                request_id, key=value, arrived_at=router.clock.now, deadline_at=1000.0
            )
            router.desk_of(request_id).submit(request, decide)
        elif name == "cancel" and waiting:
            request_id = waiting.pop(value % len(waiting))
            router.desk_of(request_id).cancel(request_id)
        elif name == "prefilled" and (left := [each for each in going if each not in prefilled]):
            request_id = left[value[0] % len(left)]
            prefilled.add(request_id)
            router.desk_of(request_id).prefilled(request_id, value[1])
        elif name == "finished" and going:
            request_id = going[value[0] % len(going)]
            ended.add(request_id)
            router.desk_of(request_id).finished(request_id, value[1])
        elif name == "move" and going:
            request_id = going[value % len(going)]
            decision = router.decisions[request_id]
            assert isinstance(decision, Dispatch)
            await router.move(request_id, frozenset({decision.decode.worker_id}))
        elif name == "changed":
            router.follow(list({each.worker_id: each for each in value}.values()), [])
        elif name == "gone":
            router.follow([], [w for w in router.dispatcher.workers if w.worker_id == value])
        elif name == "time":
            router.clock.now += value
            router.dispatcher._tell(router.dispatcher._placement.tick(router.clock.now))
        router.settle()


@pytest.mark.parametrize("policy", sorted(POLICIES))
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=20, max_size=60))
def test_several_processes_place_exactly_as_one(policy: str, steps: list[Step]) -> None:
    here, elsewhere = Router(policy, is_remote=False), Router(policy, is_remote=True)

    asyncio.run(drive(here, steps))
    asyncio.run(drive(elsewhere, steps))

    assert elsewhere.decisions == here.decisions
    assert elsewhere.moves == here.moves
    assert elsewhere.dispatcher.snapshot() == here.dispatcher.snapshot()
    for each in elsewhere.processes:
        assert set(each.desk.workers) == set(here.dispatcher.workers)


# Messages that take their time, and processes that die


class Life:
    """A gateway process, as the requests that it has."""

    def __init__(self, process: MemoryProcess) -> None:
        self.process = process
        self.waiting: set[str] = set()
        self.going: dict[str, Dispatch] = {}
        self.unprefilled: set[str] = set()

    def decide(self, decision: Decision) -> None:
        self.waiting.remove(decision.request_id)  # KeyError: decided twice, or after its end
        if isinstance(decision, Dispatch):
            assert decision.decode.worker_id
            self.going[decision.request_id] = decision
            self.unprefilled.add(decision.request_id)


class WireMachine(RuleBasedStateMachine):
    """Messages are delivered at any time, in their order, and processes die at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.dispatcher = Dispatcher(make_placement("twofold", SETTINGS), clock=self.clock)
        self.serial = itertools.count(1)
        self.lives = [self.live(), self.live()]

    def live(self) -> Life:
        return Life(MemoryProcess(next(self.serial), self.dispatcher, self.clock))

    @rule(turn=st.integers(0, 1), key=KEYS)
    def submit(self, turn: int, key: Any) -> None:
        life = self.lives[turn]
        request_id = life.process.desk.unique_id()
        life.waiting.add(request_id)
        request = make_request(request_id, key=key, arrived_at=self.clock.now, deadline_at=1e6)
        life.process.desk.submit(request, life.decide)

    @rule(turn=st.integers(0, 1), pick=PICKS)
    def leave(self, turn: int, pick: int) -> None:
        """Have a client go, wherever its request is."""
        life = self.lives[turn]
        everyone = sorted(life.waiting) + sorted(life.going)
        if everyone:
            self.leave_one(life, everyone[pick % len(everyone)])

    def leave_one(self, life: Life, request_id: str) -> None:
        if request_id in life.waiting:
            life.waiting.remove(request_id)
            life.process.desk.cancel(request_id)
        else:
            del life.going[request_id]
            life.unprefilled.discard(request_id)
            life.process.desk.finished(request_id, None)

    @rule(turn=st.integers(0, 1), usage=USAGES)
    def end_prefill(self, turn: int, usage: PromptUsage | None) -> None:
        life = self.lives[turn]
        if life.unprefilled:
            request_id = min(life.unprefilled)
            life.unprefilled.remove(request_id)
            life.process.desk.prefilled(request_id, usage)

    @rule(changed=st.lists(CHANGES, max_size=3), gone=st.sets(NAMES, max_size=2))
    def follow(self, changed: list[Worker], gone: set[str]) -> None:
        left = [each for each in self.dispatcher.workers if each.worker_id in gone]
        # In a new life, as a worker that comes back is.
        lives = [
            msgspec.structs.replace(each, incarnation=str(next(self.serial)))
            for each in {each.worker_id: each for each in changed}.values()
            if each.worker_id not in gone
        ]
        self.dispatcher.follow(lives, left)
        for life in self.lives:
            life.process.clerk.follow(lives, left)

    @rule(turn=st.integers(0, 1), count=st.integers(1, 5), to_placement=st.booleans())
    def deliver(self, turn: int, count: int, to_placement: bool) -> None:
        process = self.lives[turn].process
        (process.to_placement if to_placement else process.to_gateway).deliver(count)

    @rule(turn=st.integers(0, 1))
    def die(self, turn: int) -> None:
        """Have a process end, and another take its place."""
        self.lives[turn].process.die()
        self.lives[turn] = self.live()

    @rule(seconds=st.sampled_from([0.01, 1.0, 30.0]))
    def tick(self, seconds: float) -> None:
        self.clock.now += seconds
        self.dispatcher._tell(self.dispatcher._placement.tick(self.clock.now))

    @invariant()
    def the_clerks_hold_what_the_placement_has(self) -> None:
        placement = self.dispatcher.snapshot().placement
        held = [is_going for life in self.lives for is_going in life.process.clerk._held.values()]
        assert placement.in_flight == held.count(True)
        assert placement.queued == held.count(False)

    @precondition(lambda self: not any(len(life.process.to_gateway) for life in self.lives))
    @invariant()
    def a_process_that_heard_all_knows_all_workers(self) -> None:
        for life in self.lives:
            assert set(life.process.desk.workers) == set(self.dispatcher.workers)

    def teardown(self) -> None:
        for life in self.lives:
            life.process.settle()
        for life in self.lives:
            for request_id in [*life.waiting, *life.going]:
                if request_id in life.waiting or request_id in life.going:
                    self.leave_one(life, request_id)
                    life.process.settle()
        for life in self.lives:
            life.process.settle()
            assert not life.process.clerk._held
            assert not life.process.desk._deciders
        placement = self.dispatcher.snapshot().placement
        assert (placement.in_flight, placement.queued) == (0, 0)


def test_nothing_is_lost_on_the_way_and_all_is_given_back() -> None:
    run_state_machine_as_test(
        WireMachine,
        settings=hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None),
    )


# One at a time


def make_process(*workers: Worker) -> tuple[Dispatcher, MemoryProcess]:
    clock = Clock()
    dispatcher = Dispatcher(make_placement("twofold", SETTINGS), clock=clock)
    dispatcher.follow(workers, [])
    return dispatcher, MemoryProcess(1, dispatcher, clock)


def request_of(process: MemoryProcess) -> PlacementRequest:
    return make_request(process.desk.unique_id())


def test_a_decision_that_is_late_for_a_cancelled_request_is_given_back() -> None:
    dispatcher, process = make_process(make_worker("w", Role.BOTH))
    request = request_of(process)
    decisions: list[Decision] = []
    process.desk.submit(request, decisions.append)
    process.to_placement.deliver(1)
    before = dispatcher.snapshot().placement.in_flight

    process.desk.cancel(request.request_id)
    process.settle()

    assert (before, dispatcher.snapshot().placement.in_flight) == (1, 0)
    assert decisions == []


def test_a_worker_is_known_before_a_decision_that_its_coming_brought() -> None:
    dispatcher, process = make_process(make_worker("d", Role.DECODE))
    decisions: list[Decision] = []
    process.settle()
    blocked = make_worker("p", Role.PREFILL)
    dispatcher.follow([blocked], [])  # not announced yet, as inside of Sessions' follow
    process.desk.submit(request_of(process), decisions.append)

    process.settle()

    (decision,) = decisions
    assert isinstance(decision, Dispatch)
    assert decision.prefill == blocked


def test_a_dead_process_gives_back_those_who_wait_before_any_of_them_is_placed() -> None:
    dispatcher, process = make_process(
        make_worker("p", Role.PREFILL), make_worker("d", Role.DECODE)
    )
    for _ in range(4):
        process.desk.submit(request_of(process), lambda decision: None)
    process.to_placement.deliver(4)
    before = dispatcher.snapshot().placement
    assert before.queued > 0
    assert before.in_flight > 0

    told = len(process.to_gateway)

    process.clerk.close()

    after = dispatcher.snapshot().placement
    assert (after.queued, after.in_flight) == (0, 0)
    assert len(process.to_gateway) == told


async def test_a_suspicion_is_about_one_life() -> None:
    worker = make_worker("w", Role.BOTH)
    dispatcher, process = make_process(worker)
    decisions: list[Decision] = []

    process.clerk.suspect(Suspect(worker.worker_id, make_worker("w", Role.BOTH).incarnation))
    process.desk.submit(request_of(process), decisions.append)
    process.settle()
    again = msgspec.structs.replace(worker, incarnation="2")
    dispatcher.follow([again], [])
    process.clerk.follow([again], [])
    process.clerk.suspect(Suspect(worker.worker_id, worker.incarnation))
    process.desk.submit(request_of(process), decisions.append)
    process.settle()

    assert isinstance(decisions[0], Refuse)
    assert isinstance(decisions[1], Dispatch)
