"""Which engines can show their prefix cache, by how they share out their model."""

from typing import Any, Protocol


class Parallelism(Protocol):
    """What is read of vLLM's ``ParallelConfig``."""

    world_size: int
    tensor_parallel_size: int
    decode_context_parallel_size: int
    data_parallel_size: int
    nnodes: int
    distributed_executor_backend: Any


def shows_prefixes(parallel: Parallelism) -> bool:
    """Say whether the ranks of an engine see its prefix cache, and a block there is some heads of
    all tokens of the block in each rank.

    That is so of one rank, and of several with tensor parallelism alone, which one scheduler starts
    on its own machine.
    """
    if parallel.data_parallel_size != 1 or parallel.decode_context_parallel_size != 1:
        return False
    if parallel.world_size == 1:
        return True
    return (
        parallel.world_size == parallel.tensor_parallel_size
        and parallel.nnodes == 1
        and parallel.distributed_executor_backend == "mp"
    )
