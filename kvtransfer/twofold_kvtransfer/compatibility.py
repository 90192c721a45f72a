"""What two engines must have alike so that blocks of one are blocks of the other."""

import hashlib
import json
import platform
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def packing_of(config: "VllmConfig") -> list[str]:
    """Return by what an engine on a CPU lays out K and V within a block; nothing on a GPU.

    vLLM's CPU backend packs them as its instructions want them: bfloat16 with AMX in tiles, which
    an engine without it would read as other numbers, and nobody would see it. On one architecture
    it takes the same for float32 and float16 on all processors, so that these are not parted.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return []
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    model, cache = config.model_config, config.cache_config
    instructions = _get_attn_isa(  # as the backend calls it
        model.dtype, cache.block_size, model.get_head_size(), cache.cache_dtype
    )
    return [platform.machine(), instructions]


def attention_of(config: "VllmConfig", layers: Collection[str]) -> list[str]:
    """Return how the cache of *layers* is laid out, and by which attention backends.

    Only a rank that has loaded its model knows. A backend may order K, V and scales within a block
    as it likes, so that, as with NixlConnector, two of them are not taken to do it alike.
    """
    from vllm.distributed.kv_transfer.kv_connector.utils import get_current_attn_backends

    backends = get_current_attn_backends(config, list(layers))
    layout = config.cache_config.get_resolved_kv_cache_layout().name
    return [layout, *sorted({backend.get_name() for backend in backends})]


def compatibility(
    config: "VllmConfig",
    vllm_version: str,
    packing: "Callable[[VllmConfig], list[str]]" = packing_of,
    *,
    attention: Sequence[str] = (),
) -> str:
    """Hash what both sides of a transfer must agree on, tensor parallelism apart.

    Ranks compare hashes with the *attention* of :func:`attention_of`. What an engine's server
    announces has none, since it does not know the ranks' choice.
    """
    model = config.model_config
    facts = [
        vllm_version,
        config.kv_transfer_config.kv_connector,
        model.model,
        model.revision,
        str(model.quantization),
        str(model.dtype),
        str(config.cache_config.cache_dtype),
        config.cache_config.block_size,
        model.get_num_layers(config.parallel_config),
        model.get_total_num_kv_heads(),
        model.get_head_size(),
        *packing(config),
        *attention,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
