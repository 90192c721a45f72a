"""vLLM's tensors of a KV cache, as maps of blocks."""

import pytest
import torch

from twofold_kvtransfer.connector.cache_layout import (
    LAYOUT,
    UnsupportedCacheError,
    check_layout,
    map_blocks,
)

BLOCKS, HEADS, TOKENS, CONTENT = 5, 2, 4, 6


def cache(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A layer as vLLM shows it: ``(blocks, tokens, heads, content)``, the heads outermost in
    memory."""
    return torch.zeros(BLOCKS, HEADS, TOKENS, CONTENT, dtype=dtype).transpose(1, 2)


def test_a_block_is_a_run_of_bytes_in_each_layer() -> None:
    caches = {f"model.layers.{i}.attn": cache() for i in range(3)}

    blocks = map_blocks(caches, BLOCKS)

    assert blocks.addresses == tuple(tensor.data_ptr() for tensor in caches.values())
    assert blocks.block_bytes == HEADS * TOKENS * CONTENT * 4
    assert blocks.stride_bytes == blocks.block_bytes
    assert (blocks.block_count, blocks.memory) == (BLOCKS, "dram")


def test_the_layers_are_in_the_order_of_their_numbers() -> None:
    caches = {f"model.layers.{i}.attn": cache() for i in (10, 9, 2, 1)}

    blocks = map_blocks(caches, BLOCKS)

    expected = [caches[f"model.layers.{i}.attn"].data_ptr() for i in (1, 2, 9, 10)]
    assert list(blocks.addresses) == expected


def test_blocks_may_stand_apart() -> None:
    wide = torch.zeros(BLOCKS, 2, TOKENS, CONTENT)

    blocks = map_blocks({"layers.0": wide[:, 1]}, BLOCKS)

    assert blocks.stride_bytes == 2 * blocks.block_bytes
    assert blocks.addresses[0] == wide.data_ptr() + blocks.block_bytes


@pytest.mark.parametrize(
    "caches",
    [
        {"layers.0": torch.zeros(2, BLOCKS, TOKENS)},  # K and V outermost
        {"layers.0": torch.zeros(BLOCKS, TOKENS, 2 * CONTENT)[:, :, ::2]},  # bytes between
        {"layers.0": cache(), "layers.1": cache(torch.float16)},
        {"layers.0": cache(), "layers.1": torch.zeros(BLOCKS, 1, TOKENS, CONTENT)},
    ],
)
def test_other_layouts_are_refused_with_a_connector_that_takes_them(
    caches: dict[str, torch.Tensor],
) -> None:
    with pytest.raises(UnsupportedCacheError, match="connector: nixl"):
        map_blocks(caches, BLOCKS)


@pytest.mark.parametrize("layout", ["LBNHC", "LHBNC", "BLHNC", "BLNHC", "BHLNC"])
def test_only_the_layout_that_was_asked_for_is_taken(layout: str) -> None:
    check_layout(LAYOUT)
    with pytest.raises(UnsupportedCacheError, match=rf"{layout}.*connector: nixl"):
        check_layout(layout)
