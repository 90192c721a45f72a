"""The choice of a decode worker: each rule on a small case, then many requests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Role
from twofold_cluster.worker import Load, Topology, Worker
from twofold_router.placement.decode_choice import (
    SAMPLE_LIMIT,
    TransferCosts,
    choose_decode,
    sample,
)
from twofold_router.placement.past_future import RunningBatch
from twofold_router.placement.step_times import StepModel, StepTimes
from twofold_router.testing import make_worker

SOURCE = Topology(node="n1", zone="z1")
LOCAL, NEAR, FAR = SOURCE, Topology("n2", "z1"), Topology("n3", "z2")
COSTS = TransferCosts()


@dataclass(slots=True)
class Candidate:
    worker: Worker
    batch: RunningBatch
    step_times: StepTimes
    last_turn: int = 0


def candidate(
    running: int = 0, last_turn: int = 0, speed: float = 1.0, **changes: Any
) -> Candidate:
    """Make a worker that decodes *running* requests of 100 and 100 tokens."""
    worker = msgspec.structs.replace(make_worker("d", Role.DECODE), **changes)
    batch = RunningBatch(lambda generated: 2 * generated + 1, 0.0)
    for number in range(running):
        batch.admit(f"before-{number}", 100, 100, 100)
    return Candidate(worker, batch, step_times(speed), last_turn)


def step_times(factor: float) -> StepTimes:
    """Make the times of a worker where the batch is nearly all that counts."""
    times = StepTimes()
    times.model = StepModel(factor * 0.0002, factor * 0.001, 0.0)
    return times


def choose(candidates: Sequence[Candidate], **changes: Any) -> Candidate:
    arguments: dict[str, Any] = {
        "cached_tokens": [0.0] * len(candidates),
        "prompt_tokens": 1000,
        "output_tokens": 100,
        "source": SOURCE,
        "costs": COSTS,
        "now": 0.0,
    }
    return choose_decode(candidates, **arguments | changes)


def test_the_worker_with_the_shorter_time_per_token_is_taken() -> None:
    busy, idle = candidate(running=2), candidate(running=1)

    assert choose([busy, idle]) is idle


def test_a_faster_worker_may_run_more() -> None:
    slow, fast = candidate(running=4, speed=4.0), candidate(running=8)

    assert choose([slow, fast]) is fast


def test_the_longest_idle_of_equals_is_taken() -> None:
    late, early = candidate(last_turn=9), candidate(last_turn=3)

    assert choose([late, early]) is early


@pytest.mark.parametrize(
    ("nearer", "farther"), [(LOCAL, NEAR), (NEAR, FAR), (Topology(zone="z1"), FAR)]
)
def test_a_nearer_worker_is_taken(nearer: Topology, farther: Topology) -> None:
    far, near = candidate(topology=farther), candidate(topology=nearer, last_turn=1)

    assert choose([far, near]) is near


def test_workers_without_a_place_are_in_one_zone_and_on_no_node() -> None:
    nowhere = Topology()

    assert COSTS.link(nowhere, nowhere) is COSTS.same_zone
    assert COSTS.link(SOURCE, nowhere) is COSTS.elsewhere
    assert COSTS.link(SOURCE, SOURCE) is COSTS.same_node


def test_a_node_of_the_same_name_in_another_zone_is_elsewhere() -> None:
    assert COSTS.link(SOURCE, Topology("n1", "z2")) is COSTS.elsewhere


def test_the_prefix_counts_for_the_transfer_that_it_saves() -> None:
    # A token of the prompt costs 1e-4 s from elsewhere, one more in the batch 1e-3 * 100 s.
    holds, idle = candidate(running=1, topology=FAR), candidate(topology=FAR)

    assert choose([holds, idle], cached_tokens=[990.0, 0.0], prompt_tokens=1000) is idle
    assert choose([holds, idle], cached_tokens=[1990.0, 0.0], prompt_tokens=2000) is holds


def test_without_a_transfer_the_prefix_counts_for_the_computation_that_it_saves() -> None:
    holds, idle = candidate(running=1), candidate()

    assert choose([holds, idle], cached_tokens=[500.0, 0.0], source=None) is idle
    assert choose([holds, idle], cached_tokens=[900.0, 0.0], source=None) is holds


def test_without_a_transfer_a_worker_that_announces_a_slow_prefill_is_avoided() -> None:
    slow = candidate(load=Load(seconds_per_prefill_token=0.001))
    unknown = candidate(last_turn=1)

    assert choose([slow, unknown], source=None) is unknown
    assert choose([slow, unknown]) is slow


def test_a_worker_without_room_at_its_peak_is_not_taken() -> None:
    small = candidate(kv_capacity_tokens=1099)
    busy = candidate(running=20, kv_capacity_tokens=100_000)

    assert choose([small, busy]) is busy
    assert choose([replace(small, worker=make_worker("d", Role.DECODE)), busy]).batch is small.batch


def test_what_ends_before_the_peak_takes_no_room() -> None:
    # The bound is 1200 + 1500 tokens; the peak, with 50 steps of the newcomer, is 1200 + 1050.
    batch = candidate(kv_capacity_tokens=2300)
    batch.batch.admit("ends first", 1150, 50, 50)
    busy = candidate(running=20)

    assert choose([batch, busy], prompt_tokens=1000, output_tokens=500) is batch


def test_room_that_is_left_counts_for_nothing() -> None:
    roomy = candidate(kv_capacity_tokens=2300)
    roomy.batch.admit("ends first", 1150, 50, 50)
    idle = candidate(last_turn=1)

    assert choose([roomy, idle], prompt_tokens=1000, output_tokens=500) is idle


def test_what_other_routers_have_there_takes_room() -> None:
    others = candidate(kv_capacity_tokens=2000, load=Load(kv_used_fraction=0.5))
    busy = candidate(running=20)

    assert choose([others, busy]) is busy


def test_what_a_worker_reports_of_our_own_is_not_counted_twice() -> None:
    # 400 tokens are ours and 100 another's; our peak with the new request is 1900.
    ours = candidate(running=4, kv_capacity_tokens=2000, load=Load(kv_used_fraction=0.25))
    busy = candidate(running=20)

    assert choose([ours, busy]) is ours


@pytest.mark.parametrize("load", [Load(running_count=5), Load(waiting_count=5)])
def test_what_other_routers_run_there_slows_it(load: Load) -> None:
    others, ours = candidate(load=load), candidate(running=4)

    assert choose([others, ours]) is ours


@pytest.mark.parametrize("load", [Load(), Load(kv_used_fraction=0.1)])
def test_context_slows_a_worker_as_sequences_do(load: Load) -> None:
    full, short = candidate(running=1, load=load), candidate(running=1, last_turn=1)
    if not load.kv_used_fraction:
        full.batch.admit("long", 10_000, 100, 100)
        short.batch.admit("short", 100, 100, 100)
    for one in (full, short):
        one.step_times.model = StepModel(0.008, 0.0001, 4e-8)

    assert choose([full, short]) is short


def test_if_none_has_room_the_least_overflow_is_taken() -> None:
    idle = candidate(kv_capacity_tokens=500)
    busy = candidate(running=5, kv_capacity_tokens=1600)

    assert choose([idle, busy]) is busy


def test_time_passes_for_every_candidate() -> None:
    first, second = candidate(running=1), candidate(running=2)

    choose([first, second], now=0.05)

    assert first.batch.context_tokens == pytest.approx(100 + 0.05 / 0.0012)
    assert second.batch.context_tokens == pytest.approx(200 + 2 * 0.05 / 0.0022)


@given(st.integers(1, 8), st.integers(1, 100), st.randoms(use_true_random=False))
def test_equal_requests_spread_evenly_over_equal_workers(
    worker_count: int, request_count: int, random: Random
) -> None:
    workers = [candidate() for _ in range(worker_count)]
    random.shuffle(workers)

    counts = dispatch(workers, request_count)

    assert max(counts) - min(counts) <= 1


def test_a_worker_that_is_twice_as_slow_gets_about_half() -> None:
    counts = dispatch([candidate(), candidate(speed=2.0)], 120)

    assert counts[1] == pytest.approx(40, abs=4)


def dispatch(workers: list[Candidate], request_count: int) -> list[int]:
    """Choose for as many equal requests that stay, and count what each worker got."""
    counts = Counter[int]()
    for turn in range(1, request_count + 1):
        chosen = choose(workers)
        chosen.batch.admit(f"request-{turn}", 1000, 100, 100)
        chosen.last_turn = turn
        counts[workers.index(chosen)] += 1
    return [counts[index] for index in range(len(workers))]


@given(st.integers(0, 30), st.integers(0, 12), st.integers(1, 10), st.integers())
def test_a_sample_is_distinct_and_begins_with_the_preferred(
    size: int, preferred_count: int, limit: int, seed: int
) -> None:
    pool = [[number] for number in range(size)]  # equal by value to nothing, and unhashable
    preferred = Random(seed).sample(pool, min(preferred_count, size))

    chosen = sample(pool, preferred, limit, Random(seed))

    assert len(set(map(id, chosen))) == len(chosen) == min(size, limit)
    assert all(member in pool for member in chosen)
    if size > limit:
        assert chosen[: len(preferred)] == preferred[:limit]


def test_a_sample_of_a_small_pool_is_all_of_it_in_order() -> None:
    pool = list(range(SAMPLE_LIMIT))

    assert sample(pool, [3], SAMPLE_LIMIT, Random(1)) == pool


def test_everybody_is_sampled_as_often() -> None:
    random = Random(1)
    pool = list(range(20))

    counts = Counter(member for _ in range(2000) for member in sample(pool, [0], 8, random))

    # 7 of the other 19 in each of 2,000: 737 times, give or take 22.
    assert counts[0] == 2000
    assert all(737 - 110 < counts[member] < 737 + 110 for member in pool[1:])
