from typing import Any

import pytest

from twofold_sim.live.errors import LoadFailedError
from twofold_sim.live.loans import loan_of

PARAMS: dict[str, Any] = {
    "do_remote_prefill": True,
    "remote_block_ids": [[4, 5]],
    "remote_engine_id": "e",
    "remote_request_id": "r",
    "remote_host": "10.0.0.1",
    "remote_port": 5600,
    "remote_prefill_cached_tokens": 16,
}


def test_a_loan_says_where_the_blocks_are() -> None:
    loan = loan_of(PARAMS)

    assert loan is not None
    assert (loan.origin, loan.engine_id, loan.request_id) == ("http://10.0.0.1:5600", "e", "r")
    assert (loan.block_numbers, loan.cached_tokens) == ([4, 5], 16)


def test_an_ipv6_lender_is_written_in_brackets() -> None:
    loan = loan_of(PARAMS | {"remote_host": "::1"})

    assert loan is not None
    assert loan.origin == "http://[::1]:5600"


@pytest.mark.parametrize(
    "name",
    ["remote_engine_id", "remote_request_id", "remote_host", "remote_port", "remote_block_ids"],
)
@pytest.mark.parametrize("missing", [True, False])
def test_params_that_lack_something_are_as_if_there_were_none(name: str, missing: bool) -> None:
    params = dict(PARAMS)
    if missing:
        del params[name]
    else:
        params[name] = None

    assert loan_of(params) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"remote_block_ids": "abc"},
        {"remote_block_ids": [1]},
        {"remote_port": "abc"},
        {"remote_host": 5},
    ],
)
def test_params_that_name_no_place_fail_the_request(wrong: dict[str, Any]) -> None:
    with pytest.raises(LoadFailedError):
        loan_of(PARAMS | wrong)
