from typing import Any

import pytest

from twofold_kvtransfer.prefixes import PARAM, PrefixSource, prefix_from_params
from twofold_kvtransfer.sources import MAX_NAME_LENGTH, InvalidSourceError

VALID: dict[str, Any] = {
    "engine_id": "prefill-0:1",
    "host": "10.0.0.9",
    "port": 5700,
    "tokens": 1280,
    "seconds_per_token": 0.001,
}


def test_a_source_is_read_as_it_was_written() -> None:
    source = prefix_from_params({"do_remote_decode": True, PARAM: VALID | {"tensor_parallel": 2}})

    assert source == PrefixSource(**VALID, tensor_parallel=2)


def test_a_source_has_one_rank_unless_it_says_otherwise() -> None:
    source = prefix_from_params({PARAM: VALID})

    assert source is not None
    assert source.tensor_parallel == 1


@pytest.mark.parametrize("params", [{}, {PARAM: None}, {"do_remote_decode": True}])
def test_params_that_name_no_source_are_none(params: dict[str, Any]) -> None:
    assert prefix_from_params(params) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("engine_id", ""),
        ("engine_id", "x" * (MAX_NAME_LENGTH + 1)),
        ("engine_id", 1),
        ("engine_id", "a\0b"),
        ("host", "x" * (MAX_NAME_LENGTH + 1)),
        ("host", "a\nb"),
        ("host", None),
        ("port", 0),
        ("port", 2**16),
        ("port", "5700"),
        ("tokens", 0),
        ("tokens", 1.5),
        ("seconds_per_token", 0),
        ("seconds_per_token", -1.0),
        ("seconds_per_token", 3600.1),
        ("seconds_per_token", float("nan")),
        ("seconds_per_token", float("inf")),
        ("tensor_parallel", 0),
    ],
)
def test_what_a_client_may_have_made_up_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidSourceError, match=PARAM):
        prefix_from_params({PARAM: VALID | {name: value}})


@pytest.mark.parametrize("name", list(VALID))
def test_what_is_missing_is_refused(name: str) -> None:
    rest = {key: value for key, value in VALID.items() if key != name}

    with pytest.raises(InvalidSourceError, match=name):
        prefix_from_params({PARAM: rest})


@pytest.mark.parametrize("value", [[], "prefill-0:1", 1, False])
def test_a_source_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidSourceError, match=PARAM):
        prefix_from_params({PARAM: value})
