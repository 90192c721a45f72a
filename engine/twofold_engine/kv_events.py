"""The KV events of an engine: how vLLM is told to publish them, and where others find them."""

from twofold_engine.settings import WorkerSettings

# vLLM binds such an endpoint to VLLM_HOST_IP and a port that is free. With any other port it would
# listen on all addresses, and what it publishes are the prompts.
_ANY_PORT = "tcp://*:0"


def kv_events_config(settings: WorkerSettings) -> dict[str, object]:
    """Return what vLLM takes as ``--kv-events-config``."""
    return {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": _ANY_PORT,
        "replay_endpoint": _ANY_PORT,
        # In llm-d's form, for its followers; ours takes all topics of a worker.
        "topic": f"kv@{settings.worker_id}@{settings.served_name}",
    }


def reachable(endpoint: str | None, host: str) -> str:
    """Return *endpoint* as others reach it, who know this machine as *host*.

    It has a star for its host if a user's own argument has replaced ours.
    """
    return (endpoint or "").replace("*", f"[{host}]" if ":" in host else host)
