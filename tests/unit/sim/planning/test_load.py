"""The same requests at any rate."""

import pytest

from twofold_sim.planning.load import draw_load
from twofold_sim.workloads import Prompt, WorkloadError, qps_of

TRACE = [
    Prompt(at=float(3 * (number // 10)), prompt_tokens=600, output_tokens=7, block_ids=(number, -1))
    for number in range(400)
]


def test_rates_differ_in_nothing_but_the_time() -> None:
    load = draw_load(TRACE, 100)
    slow, fast = load.at(2.0), load.at(6.0)

    assert [prompt.block_ids for prompt in slow] == [prompt.block_ids for prompt in fast]
    assert [prompt.at for prompt in slow] == pytest.approx([prompt.at * 3 for prompt in fast])
    assert qps_of(fast) == pytest.approx(6.0)


def test_there_are_requests_before_and_after_those_that_are_measured() -> None:
    load = draw_load(TRACE, 100)

    assert (load.warm_up_count, load.measured_count, len(load.at(1.0))) == (30, 100, 180)
    assert [prompt.block_ids[0] for prompt in load.measured] == list(range(30, 130))


def test_more_may_be_wanted_before_those_that_are_measured() -> None:
    load = draw_load(TRACE, 100, least_warm_up_count=80)
    some = draw_load(TRACE[:190], 100, least_warm_up_count=80)
    none = draw_load(TRACE[:90], 100, least_warm_up_count=80)

    assert (load.warm_up_count, load.measured_count, len(load.at(1.0))) == (80, 100, 230)
    assert (some.warm_up_count, some.measured_count, len(some.at(1.0))) == (40, 100, 190)
    assert (none.warm_up_count, none.measured_count, len(none.at(1.0))) == (15, 50, 90)


def test_a_short_trace_gives_the_same_parts_of_what_there_is() -> None:
    load = draw_load(TRACE[:90], 100)

    assert (load.warm_up_count, load.measured_count, len(load.at(1.0))) == (15, 50, 90)


def test_one_request_is_enough() -> None:
    load = draw_load(TRACE[:1], 100)

    assert (load.warm_up_count, load.measured_count) == (0, 1)
    assert len(list(load.apart(5.0))) == 1


def test_one_request_has_no_rate() -> None:
    with pytest.raises(WorkloadError):
        draw_load(TRACE[:1], 100).at(5.0)


def test_bursts_of_the_trace_are_kept_only_when_asked_for() -> None:
    as_in_trace = draw_load(TRACE, 100, spacing="trace").at(1.0)
    drawn = draw_load(TRACE, 100).at(1.0)

    assert len({prompt.at for prompt in as_in_trace}) == 18
    assert len({prompt.at for prompt in drawn}) == 180


def test_another_seed_takes_other_requests_at_other_times() -> None:
    one, same, other = (draw_load(TRACE, 100, seed=seed).at(1.0) for seed in (1, 1, 2))

    assert one == same
    assert one[0].block_ids != other[0].block_ids
    assert [prompt.at for prompt in one] != [prompt.at for prompt in other]


def test_requests_can_be_had_one_at_a_time_and_with_one_token() -> None:
    load = draw_load(TRACE, 100)

    assert [prompt.at for prompt in load.apart(50.0)] == [50.0 * number for number in range(100)]
    shortened = load.with_one_token()
    assert {prompt.output_tokens for prompt in shortened.at(1.0)} == {1}
    assert shortened.measured_count == load.measured_count
