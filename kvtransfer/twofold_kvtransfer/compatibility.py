"""What two engines must have alike so that blocks of one are blocks of the other."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def compatibility(config: "VllmConfig", vllm_version: str) -> str:
    """Hash what both sides of a transfer must agree on, tensor parallelism apart."""
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
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
