"""Many steps at once are the same as one after the other.

The costs are incommensurable: where a step ended at the very moment of an arrival, rounding would
decide which comes first.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_sim.engine_model import BatchingEngine, EngineCounts, Event, Job
from twofold_sim.profiles import Profile, StepCosts, TransferCosts

BLOCK_TOKENS = 4


@dataclass(frozen=True)
class Call:
    at: float
    name: str
    job: int


@dataclass(frozen=True)
class Load:
    profile: Profile
    jobs: list[Job]
    calls: list[Call]


@st.composite
def loads(draw: st.DrawFn) -> Load:
    profile = Profile(
        name="any",
        source="any",
        steps=StepCosts(
            base_seconds=draw(st.sampled_from([0.0, 0.01 * math.sqrt(2)])),
            per_prefill_token=0.001 * math.sqrt(3),
            per_prefill_pair=1e-5 * math.sqrt(5),
            per_sequence=0.0007 * math.sqrt(7),
            per_context_token=draw(st.sampled_from([0.0, 0.0001 * math.sqrt(11)])),
        ),
        transfer=TransferCosts(latency_seconds=0.003 * math.e, per_token=0.0003 * math.pi),
        request_seconds=draw(st.sampled_from([0.0, 0.01 * math.sqrt(13)])),
        kv_capacity_tokens=BLOCK_TOKENS * draw(st.integers(18, 60)),
        block_tokens=BLOCK_TOKENS,
        max_batched_tokens=draw(st.sampled_from([5, 16, 1000])),
        max_sequences=draw(st.sampled_from([2, 100])),
    )
    jobs = []
    calls = []
    for index in range(draw(st.integers(1, 12))):
        prompt_tokens = draw(st.integers(1, 40))
        family = draw(st.integers(0, 2))
        depth = draw(st.integers(0, 10))
        full = prompt_tokens // BLOCK_TOKENS
        jobs.append(
            Job(
                job_id=str(index),
                block_ids=[(family, i) if i < depth else (index, i) for i in range(full)],
                prompt_tokens=prompt_tokens,
                output_tokens=draw(st.integers(1, 30)),
                fetched_tokens=draw(st.sampled_from([0, 0, prompt_tokens])),
                keeps_blocks=draw(st.sampled_from([False, False, True])),
            )
        )
        added_at = draw(st.floats(0.0, 0.5))
        calls.append(Call(added_at, "add", index))
        if draw(st.integers(0, 5)) == 0:
            calls.append(Call(added_at + draw(st.floats(0.001, 0.5)), "abort", index))
        if jobs[-1].keeps_blocks:
            calls.append(Call(added_at + draw(st.floats(0.001, 1.0)), "release", index))
    calls += [Call(at, "advance", 0) for at in draw(st.lists(st.floats(0.0, 1.0), max_size=3))]
    return Load(profile, jobs, sorted(calls, key=lambda call: call.at))


def outcomes(load: Load, *, tells_each_token: bool) -> tuple[list[Event], EngineCounts]:
    """Return everything that happened but for the tokens in between, and the last counts."""
    engine = BatchingEngine(load.profile, tells_each_token=tells_each_token)
    events: list[Event] = []
    for call in load.calls:
        events += engine.advance(call.at)
        if call.name == "add":
            engine.add(load.jobs[call.job], call.at)
        elif call.name == "abort":
            engine.abort(load.jobs[call.job].job_id, call.at)
        elif call.name == "release":
            engine.release(load.jobs[call.job].job_id, call.at)
    events += run_to_the_end(engine)
    for number in range(len(load.jobs)):  # kept blocks may be what others wait for
        for job in load.jobs:
            engine.release(job.job_id, 1000.0 * (1 + number))
        events += run_to_the_end(engine)
    return events, engine.counts()


def without_time(event: Event) -> Event:
    return replace(event, at=0.0)


def run_to_the_end(engine: BatchingEngine) -> Iterator[Event]:
    while (at := engine.next_at()) is not None:
        yield from engine.advance(at)


@given(loads())
@settings(max_examples=300, deadline=None)
def test_both_modes_tell_the_same_but_for_the_tokens(load: Load) -> None:
    one_by_one, counts = outcomes(load, tells_each_token=True)
    at_once, counts_at_once = outcomes(load, tells_each_token=False)

    told = [event for event in one_by_one if event.kind != "tokens"]
    assert [without_time(event) for event in at_once] == [without_time(event) for event in told]
    assert [e.at for e in at_once] == pytest.approx([e.at for e in told])
    assert counts == counts_at_once


@given(loads())
@settings(max_examples=200, deadline=None)
def test_all_that_was_taken_is_given_back(load: Load) -> None:
    events, counts = outcomes(load, tells_each_token=False)

    assert counts.kv_used_fraction == 0.0
    assert counts.running == counts.waiting == 0
    aborted = {load.jobs[call.job].job_id for call in load.calls if call.name == "abort"}
    finished = {event.job_id for event in events if event.kind == "finished"}
    assert finished | aborted == {job.job_id for job in load.jobs}
    assert [event.at for event in events] == sorted(event.at for event in events)
