from dataclasses import replace
from typing import Any

import pytest

from twofold_kvtransfer.codecs import KvShape, Packing
from twofold_kvtransfer.transports.tcp.compressing import are_alike

OURS = KvShape(
    regions=2, heads=2, block_tokens=16, head_dim=8, dtype="bfloat16", packing=Packing.CPU
)
PAGE = 2 * 16 * 8 * 2
WHOLE = (0, 2 * PAGE)


def test_a_peer_of_the_same_shape_is_alike() -> None:
    assert are_alike(OURS, OURS, WHOLE)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_some_heads_of_a_peer_are_alike(first: int) -> None:
    assert are_alike(OURS, replace(OURS, heads=4), (first * PAGE, 2 * PAGE))


@pytest.mark.parametrize("part", [(PAGE // 2, 2 * PAGE), (0, PAGE), (0, 3 * PAGE)])
def test_parts_of_heads_and_other_numbers_of_them_are_not_alike(part: tuple[int, int]) -> None:
    assert not are_alike(OURS, replace(OURS, heads=4), part)


@pytest.mark.parametrize(
    "changes",
    [
        {"regions": 3},
        {"block_tokens": 8, "head_dim": 16},
        {"dtype": "float16"},
        {"packing": Packing.TOKENS},
    ],
    ids=str,
)
def test_what_differs_otherwise_is_not_alike(changes: dict[str, Any]) -> None:
    assert not are_alike(OURS, replace(OURS, **changes), WHOLE)


def test_a_peer_without_a_shape_is_not_alike() -> None:
    assert not are_alike(OURS, None, WHOLE)
