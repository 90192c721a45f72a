"""How engines share out their model."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Parallel:
    """As vLLM has it of an engine of one rank."""

    world_size: int = 1
    tensor_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    data_parallel_size: int = 1
    nnodes: int = 1
    distributed_executor_backend: Any = "uni"


FOUR = Parallel(world_size=4, tensor_parallel_size=4, distributed_executor_backend="mp")
