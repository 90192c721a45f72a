"""How much later than predicted first tokens come."""

from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement.lateness import MIN_SAMPLES, WINDOW, Lateness


def test_nothing_is_reserved_before_enough_is_known() -> None:
    lateness = Lateness()
    for _ in range(MIN_SAMPLES - 1):
        lateness.observe(1.0, 3.0)
    assert lateness.seconds == 0.0

    lateness.observe(1.0, 3.0)
    assert lateness.seconds == 2.0


def test_tokens_that_come_early_need_no_reserve() -> None:
    lateness = Lateness()
    for _ in range(WINDOW):
        lateness.observe(1.0, 0.5)
    assert lateness.seconds == 0.0


@given(st.permutations([0.25] * 58 + [9.0] * 6))
def test_a_tenth_may_come_much_later(errors: list[float]) -> None:
    lateness = Lateness()
    for error in errors:
        lateness.observe(1.0, 1.0 + error)
    assert lateness.seconds == 0.25
