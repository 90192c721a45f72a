"""From vLLM's tensors of a KV cache to a map of its blocks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap

if TYPE_CHECKING:
    import torch
    from vllm.v1.kv_cache_interface import KVCacheConfig

LAYOUT = "LBHNC"
"""Layer, block, head, token, content: the heads of a block lie one after the other, so that those
of a rank with fewer of them are one run of bytes."""


class UnsupportedCacheError(TwofoldError):
    """A KV cache that this connector does not move; the message names one that does."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the connector 'twofold' does not move {what}; use spec.transfer.connector: nixl"
            " (--connector nixl)"
        )


def check_cache(config: "KVCacheConfig", *, uses_mla: bool) -> None:
    """Raises:
    UnsupportedCacheError: it is not dense attention of one kind in all layers.
    """
    if uses_mla:
        raise UnsupportedCacheError("multi-head latent attention")
    if len(config.kv_cache_groups) != 1:
        raise UnsupportedCacheError(f"{len(config.kv_cache_groups)} groups of layers")
    spec = config.kv_cache_groups[0].kv_cache_spec
    if type(spec).__name__ != "FullAttentionSpec":  # its subclasses are other caches
        raise UnsupportedCacheError(f"a cache of {type(spec).__name__}")


def check_layout(layout: str) -> None:
    """Raises:
    UnsupportedCacheError: vLLM has taken another *layout* than ``LAYOUT``: it heeds a connector's
        wish only where the attention backend has it too, and ``VLLM_KV_CACHE_LAYOUT`` comes first.
    """
    if layout != LAYOUT:
        raise UnsupportedCacheError(
            f"a cache laid out as {layout}, which the attention backend or VLLM_KV_CACHE_LAYOUT"
            f" has chosen before {LAYOUT}"
        )


def map_blocks(caches: Mapping[str, "torch.Tensor"], block_count: int) -> BlockMap:
    """Map the *caches* by layer, the layers in the order of their numbers.

    Raises:
        UnsupportedCacheError: blocks are not the outermost dimension, a block's bytes are not
            together, or layers differ.
    """
    tensors = [caches[name] for name in sorted(caches, key=_by_numbers)]
    first = tensors[0]
    for tensor in tensors:
        if tensor.shape[0] != block_count:
            raise UnsupportedCacheError(
                f"a cache of shape {tuple(tensor.shape)} with {block_count} blocks"
            )
        if (tensor.shape, tensor.stride(), tensor.dtype) != (
            first.shape,
            first.stride(),
            first.dtype,
        ):
            raise UnsupportedCacheError("layers of unequal shape")
        if not _is_dense(tensor[0]):
            raise UnsupportedCacheError("blocks that lie apart")
    return BlockMap(
        addresses=tuple(tensor.data_ptr() for tensor in tensors),
        block_count=block_count,
        block_bytes=first[0].nbytes,
        stride_bytes=first.stride(0) * first.element_size(),
        memory="dram" if first.device.type == "cpu" else "vram",
        device=max(first.get_device(), 0),
    )


def _is_dense(block: "torch.Tensor") -> bool:
    """Tell whether the elements of *block* fill their bytes, in any order of its dimensions."""
    last = sum(
        (size - 1) * stride for size, stride in zip(block.shape, block.stride(), strict=True)
    )
    return bool(last + 1 == block.numel())


def _by_numbers(name: str) -> tuple[tuple[int, str], ...]:
    """Order ``layers.2`` before ``layers.10``."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in name.split("."))
