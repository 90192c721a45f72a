"""Servers without an engine, that answer a probe as vLLM 0.32 does."""

import json
from collections.abc import Sequence

Pages = dict[str, tuple[int, bytes]]
"""Status and body by path; 404 for all others."""

METRICS = """\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds {started_at}
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="{model}"}} {running}.0
vllm:num_requests_waiting{{engine="0",model_name="{model}"}} {waiting}.0
vllm:num_requests_waiting_by_reason{{engine="0",model_name="{model}",reason="capacity"}} 7.0
vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} {kv_used}
vllm:cache_config_info{{block_size="16",cache_dtype="auto",engine="0",num_cpu_blocks="None",\
num_gpu_blocks="{blocks}",num_gpu_blocks_override="None"}} 1.0
"""


def vllm_pages(
    model: str = "fake-model",
    *,
    aliases: Sequence[str] = (),
    adapters: Sequence[str] = (),
    started_at: float = 1.5e9,
    running: int = 0,
    waiting: int = 0,
    kv_used: float = 0.0,
    blocks: int = 1000,
) -> Pages:
    """Return what a vLLM server answers."""
    cards: list[dict[str, object]] = [
        {"id": name, "parent": None, "max_model_len": 8192} for name in (model, *aliases)
    ]
    cards += [{"id": name, "parent": model, "max_model_len": None} for name in adapters]
    metrics = METRICS.format(
        model=model,
        started_at=started_at,
        running=running,
        waiting=waiting,
        kv_used=kv_used,
        blocks=blocks,
    )
    return {
        "/health": (200, b""),
        "/v1/models": (200, json.dumps({"object": "list", "data": cards}).encode()),
        "/version": (200, b'{"version": "0.32.0"}'),
        "/metrics": (200, metrics.encode()),
    }


class FakeServers(dict[str, Pages]):
    """A ``Fetch`` from servers by their origin. One that is not in it refuses the connection."""

    async def __call__(self, origin: str, path: str, /) -> tuple[int, bytes]:
        if origin not in self:
            raise ConnectionRefusedError(f"{origin} refuses")
        return self[origin].get(path, (404, b""))
