"""The figures of a run."""

from typing import Any

from twofold_sim.measuring import Samples, Served, Slo, measure
from twofold_sim.measuring.measures import figures
from twofold_sim.measuring.quantiles import Quantiles, curve, quantile, quantiles


def served(**changes: Any) -> Served:
    values: dict[str, Any] = {"number": 0, "at": 0.0, "prompt_tokens": 1000, "ttft_seconds": 1.0}
    values |= {"end_seconds": 1.0, "prefill": "w"} | changes
    return Served(**values)


def lost(reason: str = "lost", **changes: Any) -> Served:
    return served(ttft_seconds=None, end_seconds=None, refused=reason, **changes)


def test_a_quantile_is_a_value_that_somebody_had() -> None:
    ordered = [float(number) for number in range(1, 11)]

    assert [quantile(ordered, share) for share in (0.0, 0.5, 0.9, 0.91, 1.0)] == [1, 5, 9, 10, 10]
    assert quantile([], 0.5) is None
    assert quantiles([3.0, 1.0]) == Quantiles(mean=2.0, p50=1.0, p90=3.0, p99=3.0)
    assert quantiles([]) == Quantiles()


def test_the_curve_goes_from_the_least_to_the_greatest() -> None:
    values = [float(number) for number in range(1000)]

    found = curve(reversed(values))

    assert len(found) == 101
    assert (found[0], found[50], found[100]) == (0.0, 499.0, 999.0)
    assert curve([]) == ()


def test_on_time_is_who_got_the_first_token_within_the_slo() -> None:
    group = [served(ttft_seconds=seconds) for seconds in (1.0, 5.0, 5.01)] + [lost()]

    assert figures(group, Slo(ttft_seconds=5.0)).on_time_share == 0.5


def test_a_part_for_each_token_gives_long_prompts_longer() -> None:
    slo = Slo(ttft_seconds=1.0, ttft_seconds_per_token=0.001)
    group = [served(prompt_tokens=tokens, ttft_seconds=3.0) for tokens in (1000, 2000)]

    assert figures(group, slo).on_time_share == 0.5


def test_the_slo_is_kept_by_whom_both_its_parts_are_kept() -> None:
    slo = Slo(ttft_seconds=2.0, tpot_seconds=0.1)
    group = [
        served(output_tokens=11, ttft_seconds=1.0, end_seconds=2.0),
        served(output_tokens=11, ttft_seconds=1.0, end_seconds=2.1),
        served(output_tokens=11, ttft_seconds=3.0, end_seconds=3.5),
        served(output_tokens=1, ttft_seconds=2.0, end_seconds=2.0),
        served(output_tokens=11, ttft_seconds=1.0, end_seconds=None, refused="lost"),
    ]

    found = figures(group, slo)

    assert found.on_time_share == 0.8
    assert found.tpot_share == 0.6
    assert found.slo_share == 0.4


def test_tpot_is_of_the_tokens_after_the_first() -> None:
    found = figures([served(output_tokens=5, ttft_seconds=1.0, end_seconds=3.0)], Slo())

    assert found.tpot_seconds.p50 == 0.5
    assert figures([served(output_tokens=1)], Slo()).tpot_seconds.p50 is None


def test_the_hit_rate_leaves_out_prompts_that_were_not_computed() -> None:
    group = [served(cached_tokens=500), served(prompt_tokens=3000, cached_tokens=1500)]
    group.append(lost(prefill=""))

    assert figures(group, Slo()).hit_rate == 0.5
    assert figures([lost(prefill="")], Slo()).hit_rate == 0.0


def test_the_hit_rate_counts_a_prompt_that_was_computed_before_its_request_was_lost() -> None:
    group = [served(cached_tokens=200), lost(cached_tokens=1000)]

    assert figures(group, Slo()).hit_rate == 0.6


def test_refusals_modes_and_transfers_are_counted() -> None:
    group = [
        served(mode="disaggregated", transferred_tokens=900),
        served(mode="disaggregated", transferred_tokens=100),
        served(mode="aggregated"),
        lost("overloaded"),
        lost("overloaded"),
        lost(),
    ]

    found = figures(group, Slo())

    assert found.refusals == {"lost": 1, "overloaded": 2}
    assert found.modes == {"aggregated": 1, "disaggregated": 2}
    assert (found.transferred_count, found.transferred_tokens) == (2, 1000)


def test_the_first_to_arrive_only_warm_up() -> None:
    # As they ended; the last two arrived at the same time.
    run = [
        served(number=2, at=1.0),
        lost(number=0, at=0.0),
        served(number=1, at=1.0, ttft_seconds=9.0),
    ]

    assert measure(run, Slo(), warm_up_count=1).everyone.on_time_share == 0.5
    assert measure(run, Slo(), warm_up_count=2).everyone.on_time_share == 1.0


def test_a_quartile_is_a_quarter_of_the_requests_the_shortest_first() -> None:
    run = [served(prompt_tokens=tokens) for tokens in (8, 3, 1, 5, 7, 2, 4, 6)]

    quartiles = measure(run, Slo()).quartiles

    bounds = [(each.shortest_prompt_tokens, each.longest_prompt_tokens) for each in quartiles]
    assert bounds == [(1, 2), (3, 4), (5, 6), (7, 8)]


def test_the_skew_is_that_between_the_measured_arrivals() -> None:
    samples = Samples(interval_seconds=1.0)
    for pending in ({"a": 9.0, "b": 0.0}, {"a": 2.0, "b": 2.0}, {"a": 0.0, "b": 9.0}):
        samples.take(pending)
    run = [served(number=number, at=at) for number, at in enumerate((0.0, 0.5, 1.5))]

    assert measure(run, Slo(), samples=samples, warm_up_count=1).pending_variation == 0.0
    assert measure(run, Slo(), samples=samples).pending_variation == 0.5
    assert measure(run, Slo()).pending_variation is None
