"""A worker's settings in vLLM's words."""

import json

from twofold_engine.environment import free_ports, runs_on_cpu
from twofold_engine.kv_events import kv_events_config
from twofold_engine.settings import WorkerSettings
from twofold_kvtransfer import ConnectorSettings, TransferSettings, connector_config

# vLLM turns "uni" into "mp" on a CPU, for the sake of pinning threads. Unpinned threads need no
# process of their own: this saves 0.7 GiB and 20 s a worker, and the shared memory queue between
# the two processes, which stalled for up to 30 s on two busy cores.
_IN_PROCESS_EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def vllm_arguments(settings: WorkerSettings) -> list[str]:
    """Return the command line of vLLM's API server for *settings*."""
    cpu = runs_on_cpu()
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
        json.dumps(connector_config(_transfer(settings, cpu=cpu))),
        # The router learns from usage what was cached.
        "--enable-prompt-tokens-details",
        "--disable-uvicorn-access-log",
    ]
    if settings.kv_events:
        arguments += ["--kv-events-config", json.dumps(kv_events_config(settings))]
    if cpu:
        kv_cache_bytes = int(settings.kv_cache_gib * 2**30)
        # Two workers must generate what one generates. In bfloat16 they would not always: the
        # decode worker computes the prompt's last token alone, one engine all of them at once,
        # and the rounding of the two differs (docs/decisions/004-float32-on-a-cpu.md).
        arguments += ["--dtype", "float32", "--enforce-eager"]
        arguments += ["--kv-cache-memory-bytes", str(kv_cache_bytes)]
        if settings.tensor_parallel == 1:
            arguments += ["--distributed-executor-backend", _IN_PROCESS_EXECUTOR]
    return [*arguments, *settings.engine_args]


def _transfer(settings: WorkerSettings, *, cpu: bool) -> TransferSettings:
    engine_id = f"{settings.worker_id}:{settings.incarnation}"
    if settings.connector == "nixl":
        return TransferSettings(
            engine_id=engine_id,
            lease_seconds=settings.lease_seconds,
            buffer_device="cpu" if cpu else "cuda",
        )
    # A side channel and a service for each rank, and the worker's own service after them.
    port = free_ports(settings.host, 2 * settings.tensor_parallel + 1)
    own = ConnectorSettings(
        host=settings.host,
        port=port,
        service_port=port + settings.tensor_parallel,
        transport=settings.transport,  # type: ignore[arg-type]  # checked by WorkerSettings
        compression=settings.compression,  # type: ignore[arg-type]  # checked by WorkerSettings
        lease_seconds=settings.lease_seconds,
        verify=not settings.unverified,
    )
    return TransferSettings(engine_id=engine_id, connector="twofold", own=own)
