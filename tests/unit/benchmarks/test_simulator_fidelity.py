"""The simulated side of the comparison."""

import pytest
from benchmarks.simulated_serving import Request, Served
from benchmarks.simulator_fidelity import LOAD, OUTPUT_TOKENS, PROMPT_TOKENS, compare, workload
from tests.unit.benchmarks.made_up import PROFILE, request


def test_the_workload_is_within_its_sizes_and_the_same_for_a_seed() -> None:
    planned = workload(PROFILE, 200.0, 1, pair=False)

    assert planned == workload(PROFILE, 200.0, 1, pair=False)
    assert planned != workload(PROFILE, 200.0, 2, pair=False)
    for at, prompt, output in planned:
        assert 0.0 < at <= 200.0
        assert PROMPT_TOKENS[0] <= prompt <= PROMPT_TOKENS[1]
        assert OUTPUT_TOKENS[0] <= output <= OUTPUT_TOKENS[1]


def test_the_workload_leaves_the_engine_time() -> None:
    requests = [request(*each) for each in workload(PROFILE, 400.0, 1, pair=False)]
    busy = sum(0.01 * each.prompt_tokens for each in requests)

    assert 0.3 * LOAD < busy / 400.0 < 1.5 * LOAD


def test_errors_are_shares_of_what_the_real_engine_took() -> None:
    requests = [Request(0.0, 1, 2, ttft, 0.2) for ttft in (1.0, 2.0, 4.0)]
    simulated = [Served(ttft, 0.1) for ttft in (1.0, 1.5, 5.0)]

    compared = compare(requests, simulated)

    assert compared["ttft p50"]["error"] == pytest.approx(-0.25)
    assert compared["ttft p90"]["error"] == pytest.approx(0.25)
    assert compared["tpot p50"]["error"] == pytest.approx(-0.5)


def test_a_single_token_has_no_time_per_token() -> None:
    requests = [Request(0.0, 1, 1, 1.0, 0.0), Request(0.0, 1, 2, 1.0, 0.2)]

    compared = compare(requests, [Served(1.0, 0.0), Served(1.0, 0.2)])

    assert compared["tpot p50"]["error"] == pytest.approx(0.0)
