"""How an engine is told to move its blocks."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """``kv_role`` is ``kv_both`` so that a worker can change its role without a reload: vLLM 0.32
    calls it deprecated for this connector, and still serves both directions with it (see
    docs/decisions/003-role-change.md)."""

    engine_id: str
    """Names this engine to its peers; carries the incarnation, so that a restarted worker is
    another peer."""
    lease_seconds: int = 30
    """How long a prefill worker keeps blocks that nobody fetches; vLLM's default."""
    on_load_failure: str = "fail"
    """``fail``: the request fails and the router decides; never a silent prefill."""
    buffer_device: str = "cpu"


def connector_config(settings: TransferSettings) -> dict[str, Any]:
    """Return vLLM's ``kv_transfer_config`` for *settings*."""
    return {
        "kv_connector": "NixlConnector",
        "kv_role": "kv_both",
        "engine_id": settings.engine_id,
        "kv_buffer_device": settings.buffer_device,
        "kv_load_failure_policy": settings.on_load_failure,
        "kv_connector_extra_config": {"kv_lease_duration": settings.lease_seconds},
    }
