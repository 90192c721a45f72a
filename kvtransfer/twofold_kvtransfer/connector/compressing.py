"""What the tcp transport may code, by the engine's cache."""

import logging
from typing import TYPE_CHECKING

import torch

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.codecs import QUALITY, KvShape, Packing, ShapeError
from twofold_kvtransfer.codecs.cell_coding import CellCoder
from twofold_kvtransfer.codecs.measuring import measured_costs
from twofold_kvtransfer.codecs.shape import Dtype
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.transports.tcp import Compression

if TYPE_CHECKING:
    from vllm.v1.kv_cache_interface import AttentionSpec

_DTYPES: dict[torch.dtype, Dtype] = {
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float32: "float32",
}
_PACKINGS = {"vec": Packing.CPU, "vec16": Packing.CPU, "amx": Packing.CPU_AMX}
"""By the instructions that vLLM's CPU backend takes; of others it is not known."""

_log = logging.getLogger(__name__)


def compression_of(
    blocks: BlockMap, spec: "AttentionSpec", settings: ConnectorSettings
) -> Compression | None:
    """Return what *settings* ask for; None: nothing, or *blocks* cannot be coded, which is told."""
    if settings.compression == "off":
        return None
    try:
        shape = shape_of(spec, blocks.region_count)
        coder = CellCoder(blocks, shape)
    except ShapeError as error:
        _log.warning("no compression: this cache cannot be coded: %s", error)
        return None
    return Compression(
        coder=coder,
        quality=QUALITY[settings.compression],
        link_bytes_per_second=settings.link_bytes_per_second,
        costs=measured_costs(shape, coder.threads),
    )


def shape_of(spec: "AttentionSpec", layer_count: int) -> KvShape:
    """Return what lies in the blocks of a CPU engine's cache of *spec*.

    Raises:
        ShapeError: the codecs do not know such blocks.
    """
    if spec.dtype not in _DTYPES:
        raise ShapeError(f"a cache of {spec.dtype}")
    return KvShape(
        regions=layer_count,
        heads=spec.num_kv_heads,
        block_tokens=spec.block_size,
        head_dim=spec.head_size,
        dtype=_DTYPES[spec.dtype],
        packing=_packing_of(spec),
    )


def _packing_of(spec: "AttentionSpec") -> Packing:
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    # As the backend calls it; a quantised cache, its fourth argument, was refused before.
    instructions = _get_attn_isa(spec.dtype, spec.block_size, spec.head_size)
    if instructions not in _PACKINGS:
        raise ShapeError(f"blocks as {instructions} packs them")
    return _PACKINGS[instructions]
