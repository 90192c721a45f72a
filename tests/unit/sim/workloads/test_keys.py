"""Keys of prompts without text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.workloads import BLOCK_TOKENS, BYTES_PER_TOKEN, Prompt, key_of


def prompt(tokens: int, *block_ids: int) -> Prompt:
    return Prompt(at=0.0, prompt_tokens=tokens, output_tokens=1, block_ids=block_ids)


def test_a_key_has_the_full_blocks_and_an_end() -> None:
    key = key_of(prompt(1100, 1, 2, 3))

    assert len(key.blocks) == 2
    assert key.end not in key.blocks
    assert key.size_bytes == 1100 * BYTES_PER_TOKEN
    assert key.block_bytes == BLOCK_TOKENS * BYTES_PER_TOKEN


def test_a_prompt_of_full_blocks_ends_with_the_last() -> None:
    key = key_of(prompt(1024, 1, 2))

    assert key.end == key.blocks[-1]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(1, 3))
def test_two_keys_share_what_their_prompts_share(ids: list[int], same: int) -> None:
    numbers = [100 * index + number for index, number in enumerate(ids)]
    others = [*numbers[:same], *(number + 7 for number in numbers[same:])]
    one = key_of(prompt(len(ids) * 512, *numbers))
    other = key_of(prompt(len(ids) * 512, *others))

    assert one.blocks[:same] == other.blocks[:same]
    assert not set(one.blocks[same:]) & set(other.blocks[same:])
    assert (one == other) == (same >= len(ids))


def test_part_of_a_block_is_not_the_block() -> None:
    assert key_of(prompt(512, 7)).end != key_of(prompt(511, 7)).end


@pytest.mark.parametrize("block_id", [7, 2**104 - 1, 2**104, 2**128 - 1])
def test_an_id_of_16_bytes_has_a_key(block_id: int) -> None:
    full, part = key_of(prompt(512, block_id)), key_of(prompt(511, block_id))

    assert full.blocks == (block_id.to_bytes(16),)
    assert int.from_bytes(part.end.removeprefix(b"end")) == block_id
