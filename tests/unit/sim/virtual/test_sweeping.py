"""Which requests a run takes, and what a sweep makes of them."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement import POLICIES
from twofold_sim.measuring import Served
from twofold_sim.profiles import Profile, StepCosts
from twofold_sim.virtual import EngineCluster, PrefillPool, Reporting, Requests, Setup, sweep
from twofold_sim.virtual.sweeping import ceiling, window
from twofold_sim.workloads import OnLong, Prompt, WorkloadError

PROMPTS = [
    Prompt(at=2.0 * number, prompt_tokens=100 + number, output_tokens=1, block_ids=(number,))
    for number in range(20)
]


def numbers(prompts: list[Prompt]) -> list[int]:
    return [prompt.block_ids[0] for prompt in prompts]


def write_trace(folder: Path, count: int = 20) -> str:
    """Write a trace in which every prompt is twice as long as the one before it, up to 2,048."""
    path = folder / "trace.jsonl"
    lines = [
        msgspec.json.encode(
            {
                "timestamp": 1000 * number,
                "input_length": 512 * 2 ** (number % 3),
                "output_length": 5,
                "hash_ids": [10 * number + block for block in range(2 ** (number % 3))],
            }
        )
        for number in range(count)
    ]
    path.write_bytes(b"\n".join(lines))
    return str(path)


def test_seed_0_takes_the_first_requests() -> None:
    assert numbers(window(PROMPTS, 5, 0)) == [0, 1, 2, 3, 4]


@given(seed=st.integers(1, 1000), count=st.integers(1, 19))
def test_another_seed_takes_as_many_in_a_row_from_another_place(seed: int, count: int) -> None:
    taken = window(PROMPTS, count, seed)

    assert len(taken) == count
    assert all(after == before + 1 for before, after in pairwise(numbers(taken)))
    assert taken[0].at == 0.0
    assert taken == window(PROMPTS, count, seed)


@given(seed=st.integers(0, 1000))
def test_a_seed_that_takes_all_begins_elsewhere(seed: int) -> None:
    taken = window(PROMPTS, None, seed)

    start = numbers(taken)[0]
    assert numbers(taken) == [*range(start, 20), *range(start)]
    assert [prompt.at for prompt in taken] == pytest.approx([2.0 * n for n in range(20)])


def test_seeds_take_different_places() -> None:
    assert len({numbers(window(PROMPTS, 5, seed))[0] for seed in range(20)}) > 5


def test_long_prompts_are_dropped_before_requests_are_counted(tmp_path: Path) -> None:
    asked = Requests(
        workload=write_trace(tmp_path), count=6, max_prompt_tokens=1024, on_long="drop"
    )

    assert [prompt.prompt_tokens for prompt in asked.take(0)] == [512, 1024] * 3


@pytest.mark.parametrize("on_long", ["truncate", "drop"])
def test_a_record_tells_how_many_prompts_were_too_long(tmp_path: Path, on_long: OnLong) -> None:
    asked = Requests(workload=write_trace(tmp_path), max_prompt_tokens=1024, on_long=on_long)
    setup = Setup(cluster=PrefillPool(workers=1))
    (record,) = sweep(asked, {"twofold": POLICIES["twofold"]}, [setup], [1.0], [0])

    assert record.long_prompts is not None
    assert (record.long_prompts.count, record.long_prompts.total) == (6, 20)


def test_a_synthetic_workload_is_another_one_for_another_seed() -> None:
    asked = Requests(workload="synthetic-agent", count=20, warm_up_count=5)

    assert len(asked.take(0)) == 25
    assert asked.take(0) == asked.take(0)
    assert asked.take(0) != asked.take(1)


@pytest.mark.parametrize("most_tokens", [3000, 1000])
def test_a_synthetic_workload_goes_on_until_enough_prompts_are_short(most_tokens: int) -> None:
    asked = Requests(
        workload="synthetic-agent", count=50, max_prompt_tokens=most_tokens, on_long="drop"
    )
    taken, long_prompts = asked.take_counted(0)

    assert len(taken) == 50
    assert max(prompt.prompt_tokens for prompt in taken) <= most_tokens
    assert long_prompts is not None
    assert long_prompts.total > 100


def test_the_first_that_is_short_enough_comes_at_once() -> None:
    asked = Requests(workload="synthetic-agent", max_prompt_tokens=1000, on_long="drop")

    assert asked.take(0)[0].at == 0.0


def test_prompts_of_which_none_is_short_enough_come_to_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("twofold_sim.virtual.sweeping.MOST_MADE", 1000)
    asked = Requests(workload="synthetic-agent", count=5, max_prompt_tokens=9, on_long="drop")
    taken, long_prompts = asked.take_counted(0)

    assert taken == []
    assert long_prompts is not None
    assert long_prompts.total == 1000


def test_a_sweep_has_a_record_for_each_of_everything(tmp_path: Path) -> None:
    asked = Requests(workload=write_trace(tmp_path), count=15, warm_up_count=5)
    setups = [
        Setup(cluster=PrefillPool(workers=count), reporting=Reporting(loss=0.5)) for count in (1, 2)
    ]
    policies = {name: POLICIES[name] for name in ("twofold", "round-robin")}
    records = list(sweep(asked, policies, setups, [1.0, 2.0], [0, 1]))

    found = {(each.policy, each.workers, each.qps, each.seed) for each in records}
    assert len(records) == len(found) == 16
    assert {each.measures.everyone.request_count for each in records} == {15}
    assert {each.workload for each in records} == {"trace"}
    first = records[0].setup
    assert (first["warm_up_requests"], first["seconds_per_token"]) == (5, 0.00016)
    assert first["reporting"] == ('{"least_delay_seconds":0.0,"most_delay_seconds":0.0,"loss":0.5}')
    assert "replicas" not in first  # as usual


def conversations(folder: Path) -> str:
    """Write a trace of prompts that each begin with the whole of another one; every third is too
    long for ``SHORT`` and shares nothing."""
    path = folder / "conversations.jsonl"
    lines = []
    for number in range(60):
        turn, whose = divmod(number, 4)
        is_long = number % 3 == 2
        block_ids = [1000 * number + n for n in range(8)] if is_long else [100_000 * whose]
        block_ids += [] if is_long else [100_000 * whose + n for n in range(1, turn % 3 + 1)]
        line = {"timestamp": 700 * number, "input_length": 512 * len(block_ids)}
        lines.append(msgspec.json.encode(line | {"output_length": 4, "hash_ids": block_ids}))
    path.write_bytes(b"\n".join(lines))
    return str(path)


SHORT = Profile(
    name="short",
    source="made up",
    steps=StepCosts(base_seconds=0.01, per_prefill_token=0.0001),
    kv_capacity_tokens=100_000,
    block_tokens=16,
    max_model_tokens=2048,
)


@pytest.mark.parametrize("cluster", [{"both": 1}, {"prefill": 1, "decode": 1}])
def test_the_ceiling_of_the_hit_rate_counts_the_prompts_that_were_computed(
    tmp_path: Path, cluster: dict[str, int]
) -> None:
    asked = Requests(workload=conversations(tmp_path), count=50, warm_up_count=10)
    setup = Setup(cluster=EngineCluster(profile=SHORT, **cluster))
    (record,) = sweep(asked, {"twofold": POLICIES["twofold"]}, [setup], [1.0], [0])

    found = record.measures
    assert found.everyone.refusals == {"context_length_exceeded": 17}
    assert found.hit_rate_ceiling is not None
    # A worker that forgets nothing either: but for a last block, which is computed again, as much.
    assert 0.9 * found.hit_rate_ceiling < found.everyone.hit_rate <= found.hit_rate_ceiling


def test_who_was_not_sent_to_a_worker_fills_no_cache_below_the_ceiling() -> None:
    prompts = [
        Prompt(at=0.0, prompt_tokens=512, output_tokens=1, block_ids=(block,))
        for block in (1, 1, 2, 2)
    ]
    ends = [
        Served(number=3, at=0.0, prompt_tokens=512, mode="aggregated", prefill="w"),
        Served(number=2, at=0.0, prompt_tokens=512, mode="aggregated", refused="lost"),
        Served(number=1, at=0.0, prompt_tokens=512, mode="aggregated", prefill="w"),
        Served(number=0, at=0.0, prompt_tokens=512, refused="overloaded"),
    ]

    assert ceiling(prompts, ends, 0) == 511 / 1024
    assert ceiling(prompts, ends, 3) == 511 / 512


def test_twice_the_qps_is_half_of_the_time(tmp_path: Path) -> None:
    asked = Requests(workload=write_trace(tmp_path))
    setup = Setup(cluster=PrefillPool(workers=4))
    policies = {"twofold": POLICIES["twofold"]}
    slow, fast = sweep(asked, policies, [setup], [0.5, 1.0], [0])

    assert slow.virtual_seconds == pytest.approx(2 * (fast.virtual_seconds or 0), rel=0.05)


def test_nothing_to_be_measured_is_said(tmp_path: Path) -> None:
    asked = Requests(workload=write_trace(tmp_path), warm_up_count=20)
    setup = Setup(cluster=PrefillPool(workers=1))

    with pytest.raises(WorkloadError, match="nothing is left to be measured"):
        list(sweep(asked, POLICIES, [setup], [1.0], [0]))
