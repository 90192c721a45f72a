from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.sources import (
    MAX_NAME_LENGTH,
    InvalidSourceError,
    Source,
    from_params,
    split_engine_id,
    to_params,
)

SOURCE = Source("prefill-0:abc", "r1", "10.0.0.1", 5600, 2, (3, 1, 2))


def test_what_is_written_is_read() -> None:
    params = to_params(SOURCE, 48)

    assert from_params(params) == SOURCE
    assert (params["do_remote_prefill"], params["remote_num_tokens"]) == (True, 48)


def test_parallelism_is_one_where_nothing_is_said() -> None:
    params = to_params(SOURCE, 48)
    del params["tp_size"]

    assert from_params(params).tensor_parallel == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("remote_block_ids", None),
        ("remote_block_ids", []),
        ("remote_block_ids", [[1], [2]]),
        ("remote_block_ids", [1, 2]),
        ("remote_block_ids", [[-1]]),
        ("remote_block_ids", [["1"]]),
        ("remote_engine_id", ""),
        ("remote_engine_id", "e" * (MAX_NAME_LENGTH + 1)),
        ("remote_request_id", None),
        ("remote_request_id", "a lone half \ud800"),
        ("remote_host", "ends\0here"),
        ("remote_host", 17),
        ("remote_port", 0),
        ("remote_port", 65536),
        ("remote_port", float("inf")),
        ("tp_size", 0),
        ("tp_size", None),
    ],
)
def test_params_with_a_wrong_value_are_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidSourceError):
        from_params(to_params(SOURCE, 48) | {name: value})


@pytest.mark.parametrize(
    "name",
    ["remote_block_ids", "remote_engine_id", "remote_request_id", "remote_host", "remote_port"],
)
def test_params_that_lack_something_are_refused_by_its_name(name: str) -> None:
    params = to_params(SOURCE, 48)
    del params[name]

    with pytest.raises(InvalidSourceError, match=name):
        from_params(params)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(to_params(SOURCE, 1))), json))
def test_whatever_a_client_sends_is_a_source_or_refused(params: dict[str, Any]) -> None:
    try:
        source = from_params(to_params(SOURCE, 48) | params)
    except InvalidSourceError:
        return
    assert source.tensor_parallel >= 1
    assert all(block >= 0 for block in source.blocks)


@pytest.mark.parametrize(
    ("engine_id", "parts"),
    [
        ("prefill-0:abc", ("prefill-0", "abc")),
        ("a:b:c", ("a:b", "c")),
        ("alone", ("alone", "")),
    ],
)
def test_an_engine_is_a_worker_and_its_incarnation(engine_id: str, parts: tuple[str, str]) -> None:
    assert split_engine_id(engine_id) == parts
