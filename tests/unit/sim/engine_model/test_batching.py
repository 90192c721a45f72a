"""The engine's rules, each on a case that can be done by hand."""

from typing import Any

import pytest

from twofold_sim.engine_model import (
    BatchingEngine,
    BlocksEvent,
    BlocksRemoved,
    BlocksStored,
    Event,
    Job,
    JobTooLargeError,
)
from twofold_sim.profiles import Profile, StepCosts, TransferCosts

BLOCK = 4


def profile(**fields: Any) -> Profile:
    """A second for each token of a prompt, and a tenth for each that is generated."""
    defaults: dict[str, Any] = {
        "name": "slow",
        "source": "",
        "steps": StepCosts(per_prefill_token=1.0, per_sequence=0.1),
        "kv_capacity_tokens": 100 * BLOCK,
        "block_tokens": BLOCK,
        "max_batched_tokens": 100,
    }
    return Profile(**(defaults | fields))


def job(name: str, prompt_tokens: int, output_tokens: int = 1, **fields: Any) -> Job:
    """A job whose blocks are called after *prefix* where they are of that, else after itself."""
    prefix, shared = fields.pop("prefix", ""), fields.pop("shared", 0)
    ids = [f"{prefix if i < shared else name}{i}" for i in range(prompt_tokens // BLOCK)]
    return Job(name, ids, prompt_tokens, output_tokens, **fields)


def run(engine: BatchingEngine) -> list[tuple[str, str, float]]:
    """Return what happens until nothing does: job, kind, and when."""
    events: list[Event] = []
    while (at := engine.next_at()) is not None:
        events += engine.advance(at)
    return [(event.job_id, event.kind, round(event.at, 9)) for event in events]


def first_tokens(engine: BatchingEngine) -> list[tuple[str, float]]:
    return [(name, at) for name, kind, at in run(engine) if kind == "first-token"]


def test_a_prompt_takes_its_tokens_and_an_answer_a_step_for_each_but_the_first() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 10, 5), 2.0)

    assert run(engine) == [("a", "first-token", 12.0), ("a", "finished", 12.4)]


def test_each_token_is_told_when_asked() -> None:
    engine = BatchingEngine(profile(), tells_each_token=True)
    engine.add(job("a", 10, 3), 0.0)

    assert run(engine) == [
        ("a", "first-token", 10.0),
        ("a", "tokens", 10.1),
        ("a", "tokens", 10.2),
        ("a", "finished", 10.2),
    ]


def test_a_long_prompt_is_cut_into_steps_that_the_next_prompt_fills() -> None:
    engine = BatchingEngine(profile(max_batched_tokens=8))
    engine.add(job("a", 12), 0.0)
    engine.add(job("b", 4), 0.0)

    assert first_tokens(engine) == [("a", 16.0), ("b", 16.0)]


def test_who_decodes_goes_first_and_what_is_left_of_the_budget_is_for_prompts() -> None:
    engine = BatchingEngine(profile(max_batched_tokens=8))
    engine.add(job("a", 4, 9), 0.0)
    engine.add(job("b", 16), 2.0)

    # Four tokens, then seven beside each token of a, and two at last.
    assert first_tokens(engine) == [("a", 4.0), ("b", 4.0 + 7.1 + 7.1 + 2.1)]


def test_prompts_are_taken_in_the_order_of_coming() -> None:
    engine = BatchingEngine(profile(max_batched_tokens=4))
    for name in "abc":
        engine.add(job(name, 4), 0.0)

    assert first_tokens(engine) == [("a", 4.0), ("b", 8.0), ("c", 12.0)]


def test_no_more_run_than_the_most_sequences() -> None:
    engine = BatchingEngine(profile(max_sequences=2))
    for name in "abc":
        engine.add(job(name, 4, 11), 0.0)

    assert first_tokens(engine) == [("a", 8.0), ("b", 8.0), ("c", 14.0)]


def test_a_step_that_has_begun_ends_as_it_was_planned() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 4), 0.0)
    engine.advance(1.0)
    engine.add(job("b", 4), 1.0)

    assert first_tokens(engine) == [("a", 4.0), ("b", 8.0)]


def test_a_newcomer_joins_after_the_token_that_is_being_generated() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 4, 100), 0.0)
    engine.advance(5.05)
    engine.add(job("b", 4), 5.05)

    assert first_tokens(engine) == [("b", 5.1 + 4.1)]


def test_jobs_of_one_moment_are_in_one_batch() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 4), 0.0)
    engine.advance(0.0)
    engine.add(job("b", 4), 0.0)

    assert first_tokens(engine) == [("a", 8.0), ("b", 8.0)]


def test_a_job_that_comes_when_a_step_ends_is_in_the_next_one() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 4, 5), 0.0)
    engine.next_at()
    engine.advance(4.0)
    engine.add(job("b", 4), 4.0)

    assert first_tokens(engine) == [("b", 8.1)]


def test_the_time_of_a_request_passes_before_it_is_queued() -> None:
    engine = BatchingEngine(profile(request_seconds=0.5))
    engine.add(job("a", 4), 1.0)

    assert first_tokens(engine) == [("a", 5.5)]


def test_a_prefix_that_was_computed_is_found() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 12), 0.0)
    run(engine)
    engine.add(job("b", 16, prefix="a", shared=2), 20.0)
    (first, _) = engine.advance(30.0)

    assert (first.at, first.cached_tokens) == (28.0, 8)


def test_of_a_prompt_that_is_all_there_the_last_block_is_computed_again() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 12), 0.0)
    run(engine)
    engine.add(Job("again", ["a0", "a1", "a2"], 12, 1), 20.0)
    (first, _) = engine.advance(30.0)

    assert (first.at, first.cached_tokens) == (24.0, 8)


def test_two_of_a_batch_share_what_the_first_of_them_computes() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 12), 0.0)
    engine.add(job("b", 12, prefix="a", shared=3), 0.0)

    assert first_tokens(engine) == [("a", 16.0), ("b", 16.0)]


def test_queries_and_hits_are_counted_in_tokens() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 12, 3), 0.0)
    engine.add(job("b", 12, prefix="a", shared=2), 0.0)
    run(engine)

    counts = engine.counts()

    assert (counts.prefix_queries, counts.prefix_hits) == (24, 8)
    assert (counts.prompt_tokens, counts.generated_tokens) == (24, 4)


def test_who_does_not_fit_waits_until_blocks_are_given_back() -> None:
    engine = BatchingEngine(profile(kv_capacity_tokens=4 * BLOCK))
    engine.add(job("a", 8, 5), 0.0)
    engine.add(job("b", 12), 0.0)

    assert first_tokens(engine) == [("a", 8.0), ("b", 8.4 + 12)]


def test_the_last_to_come_is_preempted_and_computes_again_what_it_had() -> None:
    engine = BatchingEngine(profile(kv_capacity_tokens=5 * BLOCK))
    engine.add(job("a", 8, 5), 0.0)
    engine.add(job("b", 8, 5), 0.0)

    # Both want a third block for their second token. b waits until a has gone, finds its first
    # block, and computes the second and its one token again.
    assert run(engine) == [
        ("a", "first-token", 16.0),
        ("b", "first-token", 16.0),
        ("b", "preempted", 16.0),
        ("a", "finished", 16.4),
        ("b", "finished", 16.4 + 1.0 + 3 * 0.1),
    ]
    assert engine.counts().preemptions == 1


def test_who_was_preempted_is_the_first_to_be_admitted() -> None:
    engine = BatchingEngine(profile(kv_capacity_tokens=5 * BLOCK))
    engine.add(job("a", 8, 5), 0.0)
    engine.add(job("b", 8, 5), 0.0)
    engine.add(job("c", 12), 1.0)

    finished = [name for name, kind, _ in run(engine) if kind == "finished"]

    assert finished == ["a", "b", "c"]


def test_leg_1_keeps_its_blocks_until_they_are_released() -> None:
    engine = BatchingEngine(profile(kv_capacity_tokens=4 * BLOCK))
    engine.add(job("a", 12, keeps_blocks=True), 0.0)
    engine.add(job("b", 12), 0.0)
    run(engine)

    assert engine.counts().kv_used_fraction == 0.75
    assert (engine.counts().running, engine.counts().waiting) == (0, 1)

    engine.release("a", 20.0)

    assert first_tokens(engine) == [("b", 32.0)]


def test_leg_2_waits_for_its_blocks_and_computes_the_last_token() -> None:
    engine = BatchingEngine(profile(transfer=TransferCosts(latency_seconds=0.5, per_token=0.01)))
    engine.add(job("a", 20, 3, fetched_tokens=20), 0.0)
    events = engine.advance(5.0)

    assert [(e.kind, round(e.at, 9)) for e in events] == [("first-token", 1.7), ("finished", 1.9)]
    assert (events[0].cached_tokens, events[0].fetched_tokens) == (0, 20)


def test_only_what_is_not_cached_is_fetched() -> None:
    engine = BatchingEngine(profile(transfer=TransferCosts(per_token=0.01)))
    engine.add(job("a", 12), 0.0)
    run(engine)
    engine.add(job("b", 20, prefix="a", shared=3, fetched_tokens=20), 20.0)
    (first, _) = engine.advance(30.0)

    assert (round(first.at, 9), first.cached_tokens, first.fetched_tokens) == (21.08, 12, 8)


def test_others_go_on_while_blocks_are_fetched_and_they_are_found_afterwards() -> None:
    engine = BatchingEngine(profile(transfer=TransferCosts(latency_seconds=6.0)))
    engine.add(job("a", 8, fetched_tokens=8), 0.0)
    engine.add(job("b", 4), 0.0)
    engine.add(job("c", 12, prefix="a", shared=2), 10.0)

    assert first_tokens(engine) == [("b", 4.0), ("a", 7.0), ("c", 14.0)]


@pytest.mark.parametrize("at", [0.2, 0.7, 3.0, 8.25, 8.65])
def test_an_abort_gives_everything_back_whatever_the_state(at: float) -> None:
    """Being tokenized, fetching, waiting for the step, in its prefill, decoding."""
    engine = BatchingEngine(
        profile(
            request_seconds=0.5,
            transfer=TransferCosts(latency_seconds=1.0),
            max_batched_tokens=4,
        )
    )
    engine.add(job("other", 7), 0.0)
    engine.add(job("a", 8, 10, fetched_tokens=8), 0.0)
    engine.advance(at)

    engine.abort("a", at)

    assert all(name == "other" for name, _, _ in run(engine))
    counts = engine.counts()
    assert (counts.running, counts.waiting, counts.kv_used_fraction) == (0, 0, 0.0)


def test_an_abort_of_kept_blocks_gives_them_back() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 8, keeps_blocks=True), 0.0)
    run(engine)

    engine.abort("a", 9.0)

    assert engine.counts().kv_used_fraction == 0.0


def test_an_abort_in_a_step_does_not_shorten_it() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 4), 0.0)
    engine.add(job("b", 4), 0.0)
    engine.advance(1.0)

    engine.abort("a", 1.0)

    assert first_tokens(engine) == [("b", 8.0)]


def test_to_abort_or_release_what_is_unknown_does_nothing() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 4), 0.0)

    engine.abort("x", 0.0)
    engine.release("x", 0.0)
    engine.release("a", 0.0)

    assert first_tokens(engine) == [("a", 4.0)]


@pytest.mark.parametrize("tokens", [(18, 4), (1, 21)])
def test_what_never_fits_is_refused(tokens: tuple[int, int]) -> None:
    engine = BatchingEngine(profile(kv_capacity_tokens=5 * BLOCK))

    with pytest.raises(JobTooLargeError):
        engine.add(job("a", *tokens), 0.0)
    engine.add(job("b", 18, 3), 0.0)
    assert run(engine)[-1][:2] == ("b", "finished")


def test_what_is_longer_than_the_model_is_refused() -> None:
    engine = BatchingEngine(profile(max_model_tokens=10))

    with pytest.raises(JobTooLargeError, match="8 \\+ 3 tokens"):
        engine.add(job("a", 8, 3), 0.0)


def test_blocks_are_told_of_as_they_are_stored_and_removed() -> None:
    told: list[BlocksEvent] = []
    engine = BatchingEngine(
        profile(kv_capacity_tokens=4 * BLOCK, max_batched_tokens=8), on_blocks=told.append
    )
    engine.add(job("a", 13), 0.0)
    run(engine)
    engine.add(job("b", 8), 20.0)
    run(engine)

    assert told == [
        BlocksStored(("a0", "a1"), None),
        BlocksStored(("a2",), "a1"),
        BlocksRemoved(("a2",)),
        BlocksStored(("b0", "b1"), None),
    ]


def test_what_is_given_back_in_a_run_of_steps_is_not_for_those_before() -> None:
    engine = BatchingEngine(profile(kv_capacity_tokens=5 * BLOCK))
    engine.add(job("x", 4), 0.0)
    engine.add(job("kept", 3, keeps_blocks=True), 0.0)
    run(engine)
    engine.add(job("a", 4, 13), 10.0)
    engine.next_at()
    engine.advance(14.0)
    engine.next_at()

    engine.release("kept", 15.0)  # in the tenth step, when the ninth has evicted x's block
    engine.add(job("y", 5, prefix="x", shared=1), 15.0)

    assert [event.cached_tokens for event in engine.advance(30.0)] == [0, 0, 0]


def test_counts_follow_a_run_of_steps_at_once() -> None:
    engine = BatchingEngine(profile())
    engine.add(job("a", 8, 50), 0.0)
    engine.next_at()
    engine.advance(8.0)
    engine.next_at()
    engine.advance(8.55)

    counts = engine.counts()

    assert (counts.running, counts.generated_tokens) == (1, 6)
    assert counts.kv_used_fraction == pytest.approx(0.04)  # 14 tokens with the one in the making


def test_the_context_makes_steps_longer() -> None:
    engine = BatchingEngine(profile(steps=StepCosts(per_context_token=1.0)))
    engine.add(job("a", 3, 4), 0.0)

    assert run(engine)[-1] == ("a", "finished", 4.0 + 5.0 + 6.0)
