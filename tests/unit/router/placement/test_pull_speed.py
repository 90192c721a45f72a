"""Seconds per token of a prefix that is fetched."""

from twofold_router.placement.prefill_speed import MIN_OWN_SAMPLES, MIN_SAMPLE_TOKENS, WINDOW
from twofold_router.placement.pull_speed import PullSpeed


def measured(seconds_per_token: float, times: int, pool: PullSpeed | None = None) -> PullSpeed:
    speed = PullSpeed(pool or PullSpeed())
    for _ in range(times):
        speed.observe(1000 * seconds_per_token, 1000)
    return speed


def test_nothing_is_known_before_the_first_pull() -> None:
    assert PullSpeed(PullSpeed()).seconds_per_token is None


def test_an_unknown_worker_is_taken_for_one_of_its_pool() -> None:
    pool = PullSpeed()
    for seconds_per_token in (0.001, 0.002, 0.009):
        measured(seconds_per_token, 1, pool)

    assert PullSpeed(pool).seconds_per_token == 0.002


def test_own_pulls_come_before_the_pools_when_an_outlier_cannot_be_their_median() -> None:
    pool = PullSpeed()
    measured(0.001, 30, pool)

    assert measured(0.005, MIN_OWN_SAMPLES - 1, pool).seconds_per_token == 0.001
    assert measured(0.005, MIN_OWN_SAMPLES, pool).seconds_per_token == 0.005


def test_an_outlier_does_not_move_it() -> None:
    speed = measured(0.001, WINDOW - 1)
    speed.observe(9999.0, 1000)

    assert speed.seconds_per_token == 0.001


def test_a_short_pull_and_one_without_time_teach_nothing() -> None:
    speed = PullSpeed(PullSpeed())
    speed.observe(1.0, MIN_SAMPLE_TOKENS - 1)
    speed.observe(0.0, 1000)

    assert speed.seconds_per_token is None


def test_a_source_that_is_never_used_comes_to_cost_what_computing_does() -> None:
    speed = measured(0.001, WINDOW)
    for _ in range(WINDOW // 2 + 1):
        speed.declined(0.01)

    assert speed.seconds_per_token == 0.01


def test_a_source_that_is_not_used_teaches_nothing_before_the_first_pull() -> None:
    pool = PullSpeed()
    PullSpeed(pool).declined(0.01)

    assert pool.seconds_per_token is None
