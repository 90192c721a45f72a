"""Pauses before a process is started again."""

from twofold_router.processes.backoff import (
    FIRST_SECONDS,
    LONGEST_SECONDS,
    STEADY_SECONDS,
    Backoff,
)


def test_short_lives_in_a_row_pause_longer_and_longer_up_to_a_bound() -> None:
    backoff = Backoff()

    pauses = [backoff.after(0.5) for _ in range(20)]

    assert pauses[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_SECONDS


def test_a_long_life_starts_anew() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.after(0.5)

    assert backoff.after(STEADY_SECONDS) == FIRST_SECONDS
    assert backoff.after(0.5) == 2 * FIRST_SECONDS
