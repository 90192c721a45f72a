"""Whether a cluster fits into this machine's memory, before it finds out by dying."""

from twofold_cli.errors import CannotStartError

GIB = 2**30

ENGINE_GIB = 2.2
"""Of one engine on a CPU without weights and KV cache: its processes' code and buffers, measured
with vLLM 0.32."""

WEIGHT_COPIES = 2
"""While it loads, an engine has the file's pages and its own copy."""


def needed_gib(*, worker_count: int, kv_cache_gib: float, weights_bytes: int) -> float:
    """Estimate what *worker_count* CPU workers take."""
    return worker_count * (ENGINE_GIB + kv_cache_gib + WEIGHT_COPIES * weights_bytes / GIB)


def check_memory(*, needed: float, available: float, worker_count: int) -> None:
    """Compare GiB with GiB.

    Raises:
        CannotStartError: it does not fit.
    """
    if needed > available:
        workers = "1 worker needs" if worker_count == 1 else f"{worker_count} workers need"
        raise CannotStartError(
            f"{workers} about {needed:.1f} GiB of memory, and "
            f"{available:.1f} GiB are available; "
            "ask for fewer workers or a smaller --kv-cache-gib, or close other programs"
        )
