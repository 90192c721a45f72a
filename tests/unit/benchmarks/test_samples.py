import pytest
from benchmarks.load import LoadResult, Request
from benchmarks.samples import Sample, Spending, add_latency, ratio, sample, summary

RESULT = LoadResult(
    seconds=2.0,
    event_count=100,
    requests=[Request(0.0, 0.1, "200"), Request(1.0, 1.3, "200"), Request(1.0, 1.1, "429")],
)

THEIRS = ((2, 1.0), (0, 1.0), (1, 4.0))
"""Rounds and CPU seconds."""


def make_sample(system: str, number: int = 0, cpu_seconds: float = 1.0) -> Sample:
    return sample(
        (system, "s", number), RESULT, Spending(cpu_seconds, 0.5, 1.0), counts_events=False
    )


def test_cost_is_shared_by_those_that_were_served() -> None:
    found = make_sample("ours")

    assert found.cpu_us == pytest.approx(500_000)
    assert found.per_second == 1.0
    assert found.p50_us == pytest.approx(100_000)
    assert found.p99_us == pytest.approx(300_000)
    assert found.others_cores == 0.5
    assert found.failures == {"429": 1}


def test_cost_of_a_stream_is_shared_by_its_events() -> None:
    found = sample(("ours", "s", 0), RESULT, Spending(1.0, 0.5, 1.0), counts_events=True)

    assert found.cpu_us == pytest.approx(10_000)
    assert found.engine_cpu_us == pytest.approx(5_000)
    assert found.per_second == 50.0


def test_latency_is_added_to_that_of_the_same_round() -> None:
    slow = LoadResult(2.0, 0, [Request(0.0, 0.15, "200")])
    fast = LoadResult(2.0, 0, [Request(0.0, 0.01, "200")])
    elsewhere = sample(("direct", "s", 0), fast, Spending(1.0, 0.5, 1.0), counts_events=False)
    direct = [elsewhere, make_sample("direct", 1)]
    ours = sample(("ours", "s", 1), slow, Spending(1.0, 0.5, 1.0), counts_events=False)

    added = add_latency([*direct, ours], "direct")[-1]

    assert added.p50_added_us == pytest.approx(50_000)
    assert added.p99_added_us == pytest.approx(-150_000)


def test_a_ratio_is_the_median_over_the_rounds() -> None:
    ours = [make_sample("ours", number, seconds) for number, seconds in enumerate((1.0, 2.0, 9.0))]
    theirs = [make_sample("theirs", number, seconds) for number, seconds in THEIRS]
    samples = add_latency([*ours, *theirs], "theirs")

    assert ratio(samples, "ours", "theirs", "s", "cpu_us") == pytest.approx(1.0)
    assert summary(samples, "ours", "s")["cpu_us"].highest == pytest.approx(4_500_000)
