import dataclasses
from typing import Any

import pytest
from tests.unit.kvtransfer.parallel_configs import FOUR, Parallel

from twofold_kvtransfer.parallelism import shows_prefixes


def test_an_engine_of_one_rank_and_one_of_tensor_parallelism_alone_show_their_prefixes() -> None:
    assert shows_prefixes(Parallel())
    assert shows_prefixes(Parallel(distributed_executor_backend=object))
    assert shows_prefixes(FOUR)


@pytest.mark.parametrize(
    "changes",
    [
        {"tensor_parallel_size": 2},
        {"world_size": 8},
        {"decode_context_parallel_size": 2},
        {"data_parallel_size": 2},
        {"nnodes": 2},
        {"distributed_executor_backend": "ray"},
        {"distributed_executor_backend": "external_launcher"},
    ],
)
def test_an_engine_whose_ranks_are_elsewhere_or_have_other_parts_does_not(
    changes: dict[str, Any],
) -> None:
    assert not shows_prefixes(dataclasses.replace(FOUR, **changes))
