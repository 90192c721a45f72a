import re

import pytest

from twofold_cluster.identity import Incarnation, Role, new_incarnation


@pytest.mark.parametrize(
    ("role", "prefills", "decodes"),
    [(Role.PREFILL, True, False), (Role.DECODE, False, True), (Role.BOTH, True, True)],
)
def test_a_role_says_which_legs_a_worker_takes(role: Role, prefills: bool, decodes: bool) -> None:
    assert (role.prefills, role.decodes) == (prefills, decodes)


def test_an_incarnation_is_milliseconds_and_random_bits_of_fixed_width() -> None:
    # The width is what makes the order of texts the order of time, until the year 10889.
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]{8}", new_incarnation())


def test_a_later_incarnation_compares_greater() -> None:
    first = new_incarnation()
    second = new_incarnation()
    while second[:12] == first[:12]:
        second = new_incarnation()

    assert second > first


def test_incarnations_of_one_millisecond_differ() -> None:
    assert len({new_incarnation() for _ in range(100)}) == 100


def test_an_incarnation_is_greater_than_the_one_before_whatever_the_clock_says() -> None:
    last = Incarnation("f00000000000-ffffffff")

    assert new_incarnation(last) > last
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]{8}", new_incarnation(last))


def test_a_clock_that_went_on_is_believed() -> None:
    assert new_incarnation(Incarnation("000000000001-ffffffff"))[:6] == new_incarnation()[:6]


@pytest.mark.parametrize("other", ["", "1", "worker-1", "F00000000000-ffffffff"])
def test_what_is_no_incarnation_of_ours_holds_up_none(other: str) -> None:
    assert new_incarnation(Incarnation(other))[:6] == new_incarnation()[:6]
