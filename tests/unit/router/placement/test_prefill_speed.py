"""Seconds per prefill token: which source wins, and what does not move it."""

import pytest

from twofold_router.placement.prefill_speed import (
    DEFAULT_SECONDS_PER_TOKEN,
    MIN_OWN_SAMPLES,
    MIN_SAMPLE_TOKENS,
    WINDOW,
    PrefillSpeed,
)

FAST = 0.0001


def measured(
    seconds_per_token: float, times: int, pool: PrefillSpeed | None = None
) -> PrefillSpeed:
    speed = PrefillSpeed(pool or PrefillSpeed())
    for _ in range(times):
        speed.observe(1000 * seconds_per_token, 1000)
    return speed


def test_the_default_holds_while_nothing_is_known() -> None:
    assert PrefillSpeed(PrefillSpeed()).seconds_per_token == DEFAULT_SECONDS_PER_TOKEN


def test_an_unknown_worker_is_taken_for_one_of_its_pool() -> None:
    pool = PrefillSpeed()
    for seconds_per_token in (0.001, 0.002, 0.009):
        measured(seconds_per_token, MIN_OWN_SAMPLES, pool)

    assert PrefillSpeed(pool).seconds_per_token == 0.002


def test_what_a_worker_announces_comes_before_its_pool_and_after_own_measurements() -> None:
    pool = PrefillSpeed()
    measured(0.005, 3, pool)
    speed = PrefillSpeed(pool)

    speed.announce(0.002)
    announced = speed.seconds_per_token
    for _ in range(MIN_OWN_SAMPLES - 1):
        speed.observe(1000 * FAST, 1000)
    too_few = speed.seconds_per_token
    speed.observe(1000 * FAST, 1000)

    assert (announced, too_few, speed.seconds_per_token) == (0.002, 0.002, FAST)


def test_what_workers_announce_is_known_of_their_pool() -> None:
    pool = PrefillSpeed()
    for seconds_per_token in (0.001, 0.002, 0.009):
        PrefillSpeed(pool).announce(seconds_per_token)

    assert PrefillSpeed(pool).seconds_per_token == 0.002


def test_an_announcement_said_again_teaches_the_pool_nothing() -> None:
    pool = PrefillSpeed()
    chatty = PrefillSpeed(pool)
    for _ in range(9):
        chatty.announce(0.009)
    PrefillSpeed(pool).announce(0.001)
    PrefillSpeed(pool).announce(0.001)

    assert PrefillSpeed(pool).seconds_per_token == 0.001


@pytest.mark.parametrize("nothing", [None, 0.0])
def test_an_empty_announcement_changes_nothing(nothing: float | None) -> None:
    speed = PrefillSpeed(PrefillSpeed())
    speed.announce(0.002)

    speed.announce(nothing)

    assert speed.seconds_per_token == 0.002


def test_one_outlier_changes_nothing() -> None:
    speed = measured(FAST, MIN_OWN_SAMPLES)

    speed.observe(100.0, 1000)

    assert speed.seconds_per_token == FAST


def test_a_worker_that_becomes_slow_is_seen_after_half_a_window() -> None:
    speed = measured(FAST, 100)

    seen_after = 0
    while speed.seconds_per_token == FAST:
        speed.observe(1000 * 2 * FAST, 1000)
        seen_after += 1

    assert speed.seconds_per_token == 2 * FAST
    assert seen_after == WINDOW // 2 + 1 == 5


def test_a_short_prefill_is_no_measure() -> None:
    speed = PrefillSpeed(PrefillSpeed())

    for _ in range(5):
        speed.observe(1.0, MIN_SAMPLE_TOKENS - 1)
        speed.observe(0.0, MIN_SAMPLE_TOKENS)

    assert speed.seconds_per_token == DEFAULT_SECONDS_PER_TOKEN
