from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.live.blocks import Keeping, TellingBlockId, block_ids, telling_block_ids
from twofold_sim.live.tokens import Tokens

KEEPING = Keeping("m")
TOKENS = st.lists(st.integers(0, 2**53 - 1), max_size=40)


def packed(tokens: list[int]) -> Tokens:
    return array("Q", tokens)


@given(TOKENS, TOKENS, TOKENS)
def test_prompts_share_the_ids_of_the_blocks_that_they_begin_with(
    shared: list[int], one: list[int], other: list[int]
) -> None:
    a, b = (block_ids(packed(shared + rest), 4, KEEPING) for rest in (one, other))
    common = 0
    for x, y in zip(shared + one, shared + other, strict=False):
        if x != y:
            break
        common += 1

    assert a[: common // 4] == b[: common // 4]
    assert set(a[common // 4 :]).isdisjoint(b[common // 4 :])


def test_only_full_blocks_have_an_id() -> None:
    tokens = packed(list(range(11)))

    assert len(block_ids(tokens, 4, KEEPING)) == 2
    assert block_ids(tokens[:3], 4, KEEPING) == []


def test_equal_blocks_after_different_ones_differ() -> None:
    first, second = block_ids(packed([1, 2, 1, 2]), 2, KEEPING)

    assert first != second


@pytest.mark.parametrize(
    "other",
    [Keeping("n"), Keeping("m", adapter="a"), Keeping("m", salt="s"), Keeping("m", "", "a")],
)
def test_another_model_adapter_or_salt_has_blocks_of_its_own(other: Keeping) -> None:
    tokens = packed(list(range(8)))

    assert set(block_ids(tokens, 4, KEEPING)).isdisjoint(block_ids(tokens, 4, other))


@given(TOKENS)
def test_ids_that_know_their_tokens_are_the_same(tokens: list[int]) -> None:
    told = telling_block_ids(packed(tokens), 4, KEEPING)

    assert told == block_ids(packed(tokens), 4, KEEPING)
    flat: list[int] = []
    for block in told:
        assert isinstance(block, TellingBlockId)
        flat += block.tokens
    assert flat == tokens[: len(tokens) // 4 * 4]
