"""A worker's settings in vLLM's words."""

import json

from twofold_kvtransfer import TransferSettings, connector_config

from twofold_engine.environment import runs_on_cpu
from twofold_engine.settings import WorkerSettings

# vLLM turns "uni" into "mp" on a CPU, for the sake of pinning threads. Unpinned threads need no
# process of their own: this saves 0.7 GiB and 20 s a worker, and the shared memory queue between
# the two processes, which stalled for up to 30 s on two busy cores.
_IN_PROCESS_EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def vllm_arguments(settings: WorkerSettings) -> list[str]:
    """Return the command line of vLLM's API server for *settings*."""
    cpu = runs_on_cpu()
    transfer = TransferSettings(
        engine_id=f"{settings.worker_id}:{settings.incarnation}",
        lease_seconds=settings.lease_seconds,
        buffer_device="cpu" if cpu else "cuda",
    )
    arguments = [
        "--model",
        settings.model,
        "--served-model-name",
        settings.served_name,
        "--host",
        settings.host,
        "--tensor-parallel-size",
        str(settings.tensor_parallel),
        "--kv-transfer-config",
        json.dumps(connector_config(transfer)),
        # The router learns from usage what was cached.
        "--enable-prompt-tokens-details",
        "--disable-uvicorn-access-log",
    ]
    if cpu:
        kv_cache_bytes = int(settings.kv_cache_gib * 2**30)
        arguments += ["--dtype", "bfloat16", "--enforce-eager"]
        arguments += ["--kv-cache-memory-bytes", str(kv_cache_bytes)]
        if settings.tensor_parallel == 1:
            arguments += ["--distributed-executor-backend", _IN_PROCESS_EXECUTOR]
    return [*arguments, *settings.engine_args]
