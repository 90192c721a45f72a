import pytest

from twofold_kvtransfer.avoiding import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    SilentSources,
)

SOURCE = "p:1"


def fail(silent: SilentSources, now: float, source: str = SOURCE) -> None:
    """Have *source* fail a pull that asks it *now*."""
    assert silent.may_ask(source, now)
    silent.note_silence(source, now, now)


def test_a_source_of_which_nothing_is_known_is_asked_by_all() -> None:
    silent = SilentSources()

    assert [silent.may_ask(SOURCE, 0.0) for _ in range(3)] == [True] * 3


def test_a_source_that_failed_is_asked_once_after_each_wait_which_doubles() -> None:
    silent = SilentSources()
    now, wait = 100.0, FIRST_WAIT_SECONDS
    waits = []

    for _ in range(9):
        fail(silent, now)
        waits.append(wait)
        assert not silent.may_ask(SOURCE, now + 0.99 * wait)
        now += wait
        wait = min(LONGEST_WAIT_SECONDS, 2 * wait)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_while_one_asks_a_source_that_failed_the_others_do_not() -> None:
    silent = SilentSources()
    fail(silent, 0.0)

    asked = [silent.may_ask(SOURCE, FIRST_WAIT_SECONDS + late) for late in (0.0, 0.1, 0.9)]

    assert asked == [True, False, False]


def test_if_nothing_is_heard_of_who_asked_another_one_does() -> None:
    silent = SilentSources()
    fail(silent, 0.0)
    assert silent.may_ask(SOURCE, FIRST_WAIT_SECONDS)

    assert silent.may_ask(SOURCE, 2 * FIRST_WAIT_SECONDS)


def test_an_answer_ends_the_wait_and_what_it_had_grown_to() -> None:
    silent = SilentSources()
    fail(silent, 0.0)
    fail(silent, 1.0)

    silent.note_answer(SOURCE)

    assert all(silent.may_ask(SOURCE, 1.0) for _ in range(2))
    fail(silent, 1.0)
    assert silent.may_ask(SOURCE, 1.0 + FIRST_WAIT_SECONDS)


def test_pulls_that_asked_before_the_first_of_them_failed_make_the_wait_no_longer() -> None:
    silent = SilentSources()
    for failed_at in (0.5, 0.6, 0.7):
        silent.note_silence(SOURCE, 0.4, failed_at)

    assert not silent.may_ask(SOURCE, 0.5 + 0.99 * FIRST_WAIT_SECONDS)
    assert silent.may_ask(SOURCE, 0.5 + FIRST_WAIT_SECONDS)


def test_another_source_and_a_new_life_of_the_same_are_asked() -> None:
    silent = SilentSources()
    fail(silent, 0.0)

    assert silent.may_ask("p:2", 0.0)
    assert silent.may_ask("q:1", 0.0)


@pytest.mark.parametrize("again", [True, False])
def test_no_more_sources_are_remembered_than_may_be(again: bool) -> None:
    silent = SilentSources(max_sources=3)
    for now, source in enumerate(("a", "b", "c")):
        fail(silent, float(now), source)
    if again:
        fail(silent, 10.0, "a")
    fail(silent, 11.0, "d")

    asked = {source for source in "abcd" if silent.may_ask(source, 11.0 - 1e-9)}

    # Those that are remembered, and whose wait is over, are asked as well.
    assert ("a" in asked) is not again
    assert "d" not in asked
    assert len(silent._silent) == 3


def test_however_many_sources_fail_memory_is_bounded() -> None:
    silent = SilentSources()

    for number in range(3000):
        silent.note_silence(f"p{number}:1", 0.0, 0.0)

    assert len(silent._silent) == 1024
