import math
from typing import Any

import msgspec
from benchmarks.live_samples import SLO_SECONDS, Sample, assess, goals, hit_rate, render, skew
from benchmarks.replaying import NOT_ANSWERED, Replied
from benchmarks.sim_engines import Prefilled

SPEED = 2.0
"""Of the engines."""


def reply(ttft: float = 0.1, outcome: str = "200") -> Replied:
    return Replied(at=0.0, sent_late=0.0, prompt_tokens=1, ttft=ttft, outcome=outcome)


def sample(system: str, on_time: float, **fields: Any) -> Sample:
    known = Sample(
        system=system,
        on_time=on_time,
        workload="conversation",
        mode="aggregated",
        qps=9.0,
        round=0,
        requests=10,
        ttft_p50=1.0,
        ttft_p90=2.0,
        hit_rate=0.3,
        skew=1.1,
        router_cpu_ms=1.0,
        cores=1.0,
        sent_late_p99=0.0,
        failures={},
    )
    return msgspec.structs.replace(known, **fields)


def test_the_slo_is_of_the_engines_time() -> None:
    told = assess(
        [reply(SLO_SECONDS / SPEED - 0.01), reply(SLO_SECONDS / SPEED + 0.01)] * 20, SPEED
    )

    assert told["on_time"] == 0.5


def test_the_warm_up_is_not_counted() -> None:
    told = assess([reply(math.inf)] * 25 + [reply()] * 75, SPEED)

    assert told["requests"] == 75
    assert told["on_time"] == 1.0


def test_who_was_not_answered_is_late_but_no_failure() -> None:
    told = assess([reply(math.inf, NOT_ANSWERED)] * 20, SPEED)

    assert told["on_time"] == 0.0
    assert told["ttft_p50"] is None
    assert told["failures"] == {}


def test_another_status_is_a_failure() -> None:
    told = assess([reply()] * 10 + [reply(math.inf, "503")] * 10, SPEED)

    assert told["failures"] == {"503": 10}


def test_the_hit_rate_is_over_the_tokens_of_all_engines() -> None:
    assert hit_rate([Prefilled(100, 50), Prefilled(300, 0)]) == 0.125


def test_the_skew_is_of_what_was_computed() -> None:
    assert skew([Prefilled(100, 90), Prefilled(40, 10)]) == 1.5


def test_ours_is_compared_with_the_best_of_the_others_over_the_rounds() -> None:
    samples = [
        *(sample("twofold", share) for share in (0.9, 0.8)),
        *(sample("cache_aware", share) for share in (0.7, 0.5)),
        *(sample("kv_aware", share) for share in (0.9, 0.1)),
    ]

    (goal,) = goals(samples)
    assert round(goal.figure, 9) == round(0.6 - 0.85, 9)
    assert goal.met


def test_ours_in_another_setting_is_nobody_to_be_compared_with() -> None:
    assert goals([sample("twofold", 0.5), sample("twofold, told no SLO", 0.9)]) == []


def test_a_better_one_misses_the_goal() -> None:
    (goal,) = goals([sample("twofold", 0.5), sample("cache_aware", 0.6)])

    assert not goal.met


def test_each_case_has_a_table_of_its_own() -> None:
    page = render([sample("twofold", 0.5), sample("twofold", 0.7, qps=11.5, ttft_p90=None)])

    assert "9 requests a second" in page
    assert "11.5 requests a second" in page
    assert "| twofold | 0.700 | 1 | - |" in page


def test_a_time_that_one_round_did_not_see_has_no_median() -> None:
    page = render([sample("twofold", 0.5), sample("twofold", 0.5, ttft_p50=None)])

    assert "| twofold | 0.500 (0.500 to 0.500) | - | 2 |" in page
