"""Options that take several numbers."""

import pytest

from twofold_cli.errors import BadArgumentError
from twofold_cli.number_lists import numbers, pairs


def test_numbers_have_commas_between_them() -> None:
    assert numbers("--workers", "8,16,32", int) == [8, 16, 32]
    assert numbers("--qps", "7.5", float) == [7.5]


@pytest.mark.parametrize("text", ["", "8;16", "eight", "8,,16", "1.5", "-1"])
def test_what_are_no_whole_numbers_is_named(text: str) -> None:
    with pytest.raises(BadArgumentError, match=r"--workers is .*whole numbers like 8,16,32"):
        numbers("--workers", text, int)


@pytest.mark.parametrize("text", ["nan", "inf", "-0.5", "1,x"])
def test_what_is_no_number_at_all_is_named(text: str) -> None:
    with pytest.raises(BadArgumentError, match="--qps is "):
        numbers("--qps", text, float)


def test_zero_is_refused_where_it_makes_no_sense() -> None:
    assert numbers("--decode", "0", int) == [0]
    with pytest.raises(BadArgumentError, match="more than 0"):
        numbers("--qps", "7,0", float, positive=True)


def test_decode_workers_are_the_same_for_all_or_one_number_for_each() -> None:
    assert pairs([8, 16], [4]) == [(8, 4), (16, 4)]
    assert pairs([8, 16], [4, 8]) == [(8, 4), (16, 8)]
    with pytest.raises(BadArgumentError, match="3 numbers"):
        pairs([8, 16], [4, 8, 12])
