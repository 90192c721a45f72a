"""Which caches are taken, and vLLM's tensors of one as maps of blocks."""

from typing import Any

import pytest
import torch

from twofold_kvtransfer.connector.cache_layout import (
    LAYOUT,
    UnsupportedCacheError,
    check_cache,
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


def cache_of(*kinds: tuple[str, dict[str, Any]]) -> Any:
    """Return vLLM's description of a cache with a group of layers of each of *kinds*: the name of
    a spec, and what it has beside its heads."""
    interface = pytest.importorskip("vllm.v1.kv_cache_interface")
    heads = {"num_kv_heads": HEADS, "head_size": CONTENT, "dtype": torch.float32}
    groups = []
    for number, (name, fields) in enumerate(kinds):
        beside = {} if name == "MambaSpec" else heads
        spec = getattr(interface, name)(block_size=TOKENS, **beside, **fields)
        groups.append(interface.KVCacheGroupSpec([f"layers.{number}"], spec))
    return interface.KVCacheConfig(BLOCKS, [], groups)


DENSE: tuple[str, dict[str, Any]] = ("FullAttentionSpec", {})
SLIDING: tuple[str, dict[str, Any]] = ("SlidingWindowSpec", {"sliding_window": 8})
CHUNKED: tuple[str, dict[str, Any]] = ("ChunkedLocalAttentionSpec", {"attention_chunk_size": 8})
LATENT: tuple[str, dict[str, Any]] = ("MLAAttentionSpec", {})
SINK: tuple[str, dict[str, Any]] = ("SinkFullAttentionSpec", {"sink_len": 4})
MAMBA: tuple[str, dict[str, Any]] = (
    "MambaSpec",
    {"shapes": ((2, 3),), "dtypes": (torch.float32,)},
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("window", [None, 8])
def test_dense_attention_is_taken_and_windows_whose_blocks_are_all_kept(window: int | None) -> None:
    check_cache(cache_of(("FullAttentionSpec", {"sliding_window": window})), uses_mla=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kinds", "what"),
    [
        ([SLIDING], "SlidingWindowSpec"),
        ([CHUNKED], "ChunkedLocalAttentionSpec"),
        ([LATENT], "MLAAttentionSpec"),
        ([SINK], "SinkFullAttentionSpec"),
        ([MAMBA], "MambaSpec"),
        ([DENSE, SLIDING], "2 groups"),
        ([DENSE, MAMBA, MAMBA], "3 groups"),
    ],
)
def test_other_models_are_refused_with_a_connector_that_takes_them(
    kinds: list[tuple[str, dict[str, Any]]], what: str
) -> None:
    with pytest.raises(UnsupportedCacheError, match=f"{what}.*connector: nixl"):
        check_cache(cache_of(*kinds), uses_mla=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_latent_attention_is_refused_whatever_its_cache_is_called() -> None:
    with pytest.raises(UnsupportedCacheError, match=r"latent attention.*connector: nixl"):
        check_cache(cache_of(DENSE), uses_mla=True)
