"""That blocks lie as ``Packing`` says, by what vLLM's own kernel writes."""

import pytest
import torch
from tests.unit.kvtransfer.codecs.made_blocks import unpack

from twofold_kvtransfer.codecs import Packing

TOKENS, CHANNELS = 64, 96

CASES = [
    ("vec", torch.float32, Packing.CPU),
    ("vec", torch.float16, Packing.CPU),
    ("vec", torch.bfloat16, Packing.CPU),
    ("vec16", torch.float32, Packing.CPU),
    ("vec16", torch.bfloat16, Packing.CPU),
    ("amx", torch.bfloat16, Packing.CPU_AMX),
]


@pytest.mark.parametrize(("instructions", "dtype", "packing"), CASES)
def test_vllm_packs_blocks_as_stated(
    instructions: str, dtype: torch.dtype, packing: Packing
) -> None:
    pytest.importorskip("vllm._C")
    if instructions == "amx" and not torch.cpu._is_amx_tile_supported():
        pytest.skip("this processor has no AMX")
    heads = 2
    random = torch.Generator().manual_seed(7)
    key = torch.randn(TOKENS, heads, CHANNELS, generator=random).to(dtype)
    value = torch.randn(TOKENS, heads, CHANNELS, generator=random).to(dtype)
    cache = torch.zeros(3, heads, TOKENS, 2 * CHANNELS, dtype=dtype)

    # As vllm.v1.attention.backends.cpu_attn does it.
    halves = cache.view(3, heads, 2 * TOKENS, CHANNELS).chunk(2, dim=2)
    slots = torch.arange(TOKENS) + TOKENS
    torch.ops._C.cpu_attn_reshape_and_cache(
        key, value, *halves, slots, instructions, 1.0, 1.0, "auto"
    )

    got_key, got_value = unpack(cache[1], packing)
    assert torch.equal(got_key, key.transpose(0, 1))
    assert torch.equal(got_value, value.transpose(0, 1))
