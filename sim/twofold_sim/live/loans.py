"""What leg 2 brings with it: where the blocks of its prompt are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twofold_sim.live.errors import LoadFailedError

_NEEDED = ("remote_engine_id", "remote_request_id", "remote_host", "remote_port")


@dataclass(frozen=True, slots=True, eq=False)
class Loan:
    """The blocks that one request has left at another engine."""

    origin: str
    """Of that engine's side channel."""
    engine_id: str
    request_id: str
    block_numbers: Sequence[int]
    cached_tokens: int | None
    """Of the prompt, found in that engine's cache: what the client is told."""


def loan_of(params: dict[str, Any]) -> Loan | None:
    """Read the ``kv_transfer_params`` of leg 2; None if they lack something, when vLLM computes
    the prompt itself and says no more than a line in its log.

    Raises:
        LoadFailedError: what they name can be nowhere.
    """
    if not params.get("remote_block_ids") or any(params.get(name) is None for name in _NEEDED):
        return None
    groups = params["remote_block_ids"]
    host, port = params["remote_host"], params["remote_port"]
    try:
        numbers = [int(number) for group in groups for number in group]
        origin = f"http://[{host}]:{int(port)}" if ":" in host else f"http://{host}:{int(port)}"
    except (TypeError, ValueError) as error:
        raise LoadFailedError from error
    cached = params.get("remote_prefill_cached_tokens")
    return Loan(
        origin,
        str(params["remote_engine_id"]),
        str(params["remote_request_id"]),
        numbers,
        cached if isinstance(cached, int) else None,
    )
