"""Classes as a flag tells them."""

import pytest

from twofold_router.access import InvalidAccessError, RequestClass, parse_class


def test_all_fields_are_read() -> None:
    told = parse_class(
        "interactive:priority=10,ttft=2.0,ttft-per-token=0.0005,tpot=0.05,late=refuse"
    )

    assert told == RequestClass("interactive", 10, 2.0, 0.0005, "refuse", 0.05)


@pytest.mark.parametrize("text", ["batch", "batch:"])
def test_fields_that_are_left_out_have_defaults(text: str) -> None:
    assert parse_class(text) == RequestClass("batch", 0, 5.0, 0.0, "serve")


def test_a_class_may_be_less_important_than_the_default() -> None:
    assert parse_class("batch:priority=-10").priority == -10


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("", "name"),
        (":priority=1", "name"),
        ("a b:priority=1", "name"),
        ("a" * 64, "name"),
        ("a:priority", "priority"),
        ("a:priority=", "priority"),
        ("a:priority=1.5", "priority"),
        ("a:priority=1_0", "priority"),
        ("a:priority=1000001", "priority"),
        ("a:priority=1,priority=2", "priority: told twice"),
        ("a:colour=red", "colour"),
        ("a:ttft=0", "ttft: must be seconds, more than 0"),
        ("a:ttft=-1", "ttft:"),
        ("a:ttft=nan", "ttft:"),
        ("a:ttft=inf", "ttft:"),
        ("a:ttft=soon", "ttft:"),
        ("a:ttft-per-token=-0.1", "ttft-per-token:"),
        ("a:ttft-per-token=nan", "ttft-per-token:"),
        ("a:tpot=0", "tpot: must be seconds, more than 0"),
        ("a:tpot=", "tpot:"),
        ("a:late=maybe", "late"),
        ("a:ttft=1,", "no field=value"),
    ],
)
def test_a_bad_class_is_refused_by_field(text: str, culprit: str) -> None:
    with pytest.raises(InvalidAccessError, match=culprit):
        parse_class(text)


def test_no_time_per_token_is_allowed() -> None:
    assert parse_class("a:ttft-per-token=0").ttft_slo_seconds_per_token == 0.0
