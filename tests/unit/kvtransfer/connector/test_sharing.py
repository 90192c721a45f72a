import pytest

from twofold_kvtransfer.connector.sharing import Advice, SharedPulls

PATIENCE = 5.0


def advise(
    shared: SharedPulls,
    name: bytes = b"0",
    first: int = 0,
    *,
    who: str = "r",
    follows: bool = False,
    now: float = 100.0,
) -> Advice:
    return shared.advise(who, name, first, follows=follows, now=now, patience=PATIENCE)


def pulling(*pulls: tuple[str, list[bytes]], follows: bool = False) -> SharedPulls:
    shared = SharedPulls()
    for who, names in pulls:
        shared.begin(who, names, follows=follows)
    return shared


@pytest.mark.parametrize(
    ("name", "advice"), [(b"0", Advice.WAIT), (b"1", Advice.WAIT), (b"2", Advice.PULL)]
)
def test_who_needs_a_block_that_is_on_its_way_waits_for_it(name: bytes, advice: Advice) -> None:
    shared = pulling(("other", [b"0", b"1"]))

    assert advise(shared, name) is advice
    assert advise(shared, name) is advice


def test_what_is_pulled_no_more_is_not_waited_for() -> None:
    shared = pulling(("other", [b"0", b"1"]))
    shared.end("other", [b"0", b"1"])

    assert advise(shared) is Advice.PULL


@pytest.mark.parametrize("ends", [("one", "other"), ("other", "one")])
def test_of_two_who_pull_a_block_either_is_waited_for(ends: tuple[str, str]) -> None:
    shared = pulling(("one", [b"0"]), ("other", [b"0"]))

    shared.end(ends[0], [b"0"])
    assert advise(shared) is Advice.WAIT
    shared.end(ends[1], [b"0"])

    assert advise(shared, who="third") is Advice.PULL


def test_who_waits_for_one_does_not_turn_to_another_that_pulls_the_same() -> None:
    shared = pulling(("one", [b"0"]))
    advise(shared)
    shared.begin("other", [b"0"], follows=False)
    assert advise(shared) is Advice.WAIT

    shared.end("one", [b"0"])

    assert advise(shared) is Advice.PULL


@pytest.mark.parametrize(
    ("first", "advice"), [(0, Advice.PULL), (1, Advice.WAIT), (-1, Advice.PULL)]
)
def test_who_has_waited_in_vain_waits_for_no_other(first: int, advice: Advice) -> None:
    """What it needed may have come, and have been evicted: then it has less than before."""
    shared = pulling(("one", [b"0"]))
    assert advise(shared) is Advice.WAIT
    shared.end("one", [b"0"])
    shared.begin("other", [b"0", b"1"], follows=False)

    assert advise(shared, b"1", first) is advice


def test_who_has_waited_as_long_as_computing_takes_computes() -> None:
    shared = pulling(("one", [b"0"]))
    advise(shared, now=100.0)

    assert advise(shared, now=100.0 + 0.99 * PATIENCE) is Advice.WAIT
    assert advise(shared, now=100.0 + PATIENCE) is Advice.COMPUTE


def test_the_time_counts_from_the_first_that_was_waited_for() -> None:
    shared = pulling(("one", [b"0"]))
    advise(shared, now=100.0)
    shared.end("one", [b"0"])
    shared.begin("other", [b"1"], follows=False)
    assert advise(shared, b"1", 1, now=102.0) is Advice.WAIT

    assert advise(shared, b"1", 1, now=100.0 + PATIENCE) is Advice.COMPUTE


def test_for_what_is_not_computed_yet_only_a_follower_waits() -> None:
    shared = pulling(("other", [b"0"]), follows=True)

    assert advise(shared) is Advice.PULL
    assert advise(shared, who="follower", follows=True) is Advice.WAIT
    shared.begin("plain", [b"0"], follows=False)
    assert advise(shared) is Advice.WAIT


def test_a_name_that_comes_again_is_not_taken_for_a_follower_s() -> None:
    shared = pulling(("other", [b"0"]), follows=True)
    shared.end("other", [b"0"])
    shared.begin("other", [b"0"], follows=False)

    assert advise(shared) is Advice.WAIT


def test_nothing_is_remembered_of_who_is_forgotten() -> None:
    shared = pulling(("one", [b"0"]))
    advise(shared, now=100.0)

    shared.forget("r")
    shared.forget("unknown")

    assert advise(shared, now=100.0 + PATIENCE) is Advice.WAIT
