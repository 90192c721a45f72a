import pytest

from twofold_engine.errors import SupersededError
from twofold_engine.holding import Hold


def test_a_worker_obeys_the_manager_that_took_it_over_last_and_nobody_else() -> None:
    hold = Hold("first", 10.0, now=0.0)
    hold.check("first", now=1.0)

    hold.take("second", now=2.0)

    hold.check("second", now=3.0)
    with pytest.raises(SupersededError, match="second has taken over"):
        hold.check("first", now=4.0)


def test_a_manager_that_asks_may_be_silent_again_for_the_whole_limit() -> None:
    hold = Hold("first", 10.0, now=0.0)

    hold.check("first", now=7.0)

    assert hold.left_seconds(now=7.0) == 10.0
    assert hold.left_seconds(now=16.0) == 1.0


def test_a_manager_that_takes_a_worker_over_has_the_whole_limit() -> None:
    hold = Hold("first", 10.0, now=0.0)

    hold.take("second", now=9.0)

    assert hold.left_seconds(now=9.0) == 10.0


def test_who_was_superseded_does_not_keep_a_worker_alive() -> None:
    hold = Hold("second", 10.0, now=0.0)

    with pytest.raises(SupersededError):
        hold.check("first", now=9.0)

    assert hold.left_seconds(now=10.0) == 0.0


def test_a_hold_is_lost_once_the_limit_has_passed() -> None:
    assert Hold("first", 10.0, now=0.0).left_seconds(now=99.0) == 0.0


def test_without_a_limit_a_hold_is_never_lost() -> None:
    assert Hold("first", None, now=0.0).left_seconds(now=1e9) is None
