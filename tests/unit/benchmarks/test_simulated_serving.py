"""Requests through simulated engines, alone and as a pair."""

import pytest
from benchmarks.simulated_serving import simulate
from tests.unit.benchmarks.made_up import PROFILE, request


def test_one_engine_serves_the_requests_as_they_come() -> None:
    requests = [request(5.0, 100, 1), request(0.0, 200, 11)]

    late, early = simulate(PROFILE, requests, pair=False)

    assert (early.ttft, early.tpot) == pytest.approx((2.0, 0.1))
    assert (late.ttft, late.tpot) == pytest.approx((1.0, 0.0))


def test_of_a_pair_the_second_fetches_what_the_first_computed() -> None:
    (served,) = simulate(PROFILE, [request(0.0, 200, 11)], pair=True)

    assert (served.ttft, served.tpot) == pytest.approx((2.0 + 1.0 + 0.01, 0.1))


def test_of_a_pair_those_who_generate_are_not_held_up_by_a_prompt() -> None:
    requests = [request(0.0, 10, 100), request(2.0, 500, 5)]

    alone, _ = simulate(PROFILE, requests, pair=False)
    apart, _ = simulate(PROFILE, requests, pair=True)

    assert alone.tpot > 1.4 * apart.tpot


def test_of_a_pair_on_one_machine_each_is_slower_while_the_other_computes() -> None:
    requests = [request(0.0, 10, 100), request(2.0, 500, 1)]

    (apart, _), (shared, _) = (
        simulate(PROFILE, requests, pair=True, slowdowns=slowdowns)
        for slowdowns in ((1.0, 1.0), (2.0, 1.5))
    )

    # The second prompt takes 5 s, or 10 s beside the one that generates, which does 6.7 s of work
    # meanwhile.
    assert shared.ttft == pytest.approx(apart.ttft)
    assert apart.tpot * 99 == pytest.approx(9.9, abs=0.02)
    assert shared.tpot * 99 == pytest.approx(9.9 + 10.0 - 10.0 / 1.5, abs=0.02)
