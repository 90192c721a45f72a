"""The engine that only prefills."""

import pytest

from twofold_sim.engine_model import Event, Job
from twofold_sim.virtual.serial_engine import InstantEngine, SerialEngine, TimedJob


def make_job(name: str, tokens: int, *blocks: int) -> Job:
    return Job(job_id=name, block_ids=blocks, prompt_tokens=tokens, output_tokens=1)


def first_tokens(engine: SerialEngine, now: float) -> list[tuple[str, float, int]]:
    return [
        (event.job_id, event.at, event.cached_tokens)
        for event in engine.advance(now)
        if event.kind == "first-token"
    ]


def test_prompts_are_computed_one_after_the_other() -> None:
    engine = SerialEngine(seconds_per_token=0.001, cache_tokens=10_000)
    engine.add(make_job("a", 1000, 1, 2), 0.0)
    engine.add(make_job("b", 500, 3), 0.25)

    assert engine.next_at() == 1.0
    assert first_tokens(engine, 1.0) == [("a", 1.0, 0)]
    assert engine.next_at() == 1.5
    assert first_tokens(engine, 9.0) == [("b", 1.5, 0)]
    assert engine.next_at() is None


def test_a_cached_prefix_is_not_computed_again() -> None:
    engine = SerialEngine(seconds_per_token=0.001, cache_tokens=10_000)
    engine.add(make_job("a", 1024, 1, 2), 0.0)
    engine.advance(5.0)
    engine.add(make_job("b", 1536, 1, 2, 4), 5.0)

    [(name, at, cached_tokens)] = first_tokens(engine, 9.0)
    assert (name, cached_tokens) == ("b", 1024)
    assert at == pytest.approx(5.512)


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    engine = SerialEngine(seconds_per_token=0.001, cache_tokens=10_000)
    engine.add(make_job("a", 512, 1), 0.0)
    engine.advance(5.0)
    engine.add(make_job("b", 512, 1), 5.0)

    [(name, at, cached_tokens)] = first_tokens(engine, 9.0)
    assert (name, cached_tokens) == ("b", 511)
    assert at == pytest.approx(5.001)


def test_a_full_cache_forgets_the_end_of_the_least_recent_prompt() -> None:
    engine = SerialEngine(seconds_per_token=0.001, cache_tokens=4 * 512)
    for name, blocks in (("a", (1, 2, 3)), ("b", (4, 5)), ("c", (1, 2, 3))):
        engine.add(make_job(name, len(blocks) * 512, *blocks), 0.0)

    cached = [tokens for _, _, tokens in first_tokens(engine, 9.0)]

    assert cached == [0, 0, 1024]


def test_a_mispredicted_prompt_takes_more_time_than_its_tokens_say() -> None:
    engine = SerialEngine(seconds_per_token=0.001, cache_tokens=10_000)
    job = TimedJob("a", (1, 2), prompt_tokens=1000, output_tokens=1, prefill_factor=1.2)
    engine.add(job, 0.0)

    assert engine.next_at() == pytest.approx(1.2)


def test_an_aborted_job_is_not_heard_of() -> None:
    engine = SerialEngine(seconds_per_token=0.001, cache_tokens=10_000)
    engine.add(make_job("a", 1000, 1, 2), 0.0)
    engine.add(make_job("b", 1000, 3, 4), 0.0)
    engine.abort("a", 0.5)
    engine.abort("unknown", 0.5)

    assert first_tokens(engine, 9.0) == [("b", 2.0, 0)]


def test_an_instant_engine_ends_what_it_begins() -> None:
    engine = InstantEngine()
    engine.add(make_job("a", 1000), 2.0)

    assert engine.next_at() == 2.0
    assert engine.advance(2.0) == [
        Event(2.0, "a", "first-token", 1),
        Event(2.0, "a", "finished", 1),
    ]
    assert engine.next_at() is None
