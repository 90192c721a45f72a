"""From vLLM's spec of a cache to what may be coded."""

import contextlib
import logging
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from vllm.v1.kv_cache_interface import FullAttentionSpec

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.codecs import Packing, Quality, ShapeError
from twofold_kvtransfer.connector.cache_layout import map_blocks
from twofold_kvtransfer.connector.compressing import compression_of, shape_of
from twofold_kvtransfer.settings import ConnectorSettings

# vLLM's backend imports parts of torch that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

HAS_AMX = torch.cpu._is_amx_tile_supported()


def spec(**changes: Any) -> FullAttentionSpec:
    fields = {"block_size": 128, "num_kv_heads": 3, "head_size": 64, "dtype": torch.float32}
    return FullAttentionSpec(**(fields | changes))


def settings(compression: Any) -> ConnectorSettings:
    return ConnectorSettings(host="h", port=1, transport="tcp", compression=compression)


def blocks_of(tokens: int = 128) -> tuple[BlockMap, torch.Tensor]:
    memory = torch.zeros(2, 4, 3, tokens, 128)
    return map_blocks({"layers.0": memory[0], "layers.1": memory[1]}, 4), memory


@pytest.mark.parametrize(
    ("dtype", "packing"),
    [
        (torch.float32, Packing.CPU),
        (torch.float16, Packing.CPU),
        (torch.bfloat16, Packing.CPU_AMX if HAS_AMX else Packing.CPU),
    ],
)
def test_blocks_are_packed_as_the_backend_packs_their_type(
    dtype: torch.dtype, packing: Packing
) -> None:
    shape = shape_of(spec(dtype=dtype), 2)

    assert shape.packing is packing
    assert (shape.regions, shape.heads, shape.block_tokens, shape.head_dim) == (2, 3, 128, 64)


@pytest.mark.parametrize("changes", [{"dtype": torch.float8_e4m3fn}, {"block_size": 20}], ids=str)
def test_a_cache_that_the_codecs_do_not_know_has_no_shape(changes: dict[str, Any]) -> None:
    with pytest.raises(ShapeError):
        shape_of(spec(**changes), 2)


def test_a_bound_is_taken_over_and_off_is_nothing() -> None:
    blocks, _memory = blocks_of()

    assert compression_of(blocks, spec(), settings("off")) is None
    compression = compression_of(blocks, spec(), settings("int8"))
    assert compression is not None
    with contextlib.closing(compression.coder):
        assert compression.quality is Quality.CLOSE


def test_a_cache_that_cannot_be_coded_is_told_and_moved_as_it_lies(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocks, _memory = blocks_of(tokens=64)  # not the block size of the spec

    with caplog.at_level(logging.WARNING):
        assert compression_of(blocks, spec(), settings("int8")) is None
    assert "no compression" in caplog.text
    assert "blocks of" in caplog.text
