"""Prompt keys, requests and accounts to try a placement on."""

from typing import Any

from xxhash import xxh3_128_digest

from twofold_cluster.identity import Role
from twofold_cluster.prompt_key import PromptKey
from twofold_router.placement.accounts import Account
from twofold_router.placement.interface import PlacementRequest
from twofold_router.placement.models import ModelStatistics
from twofold_router.placement.orders import ByArrival, Order
from twofold_router.placement.waiting import Waiting
from twofold_router.testing.workers import MODEL, make_worker

BLOCK_TOKENS = 512
BYTES_PER_TOKEN = 4
"""What a placement assumes that has learned nothing."""


def make_key(*blocks: object, rest_tokens: int = 0, block_tokens: int = BLOCK_TOKENS) -> PromptKey:
    """Make the key of a prompt of full *blocks*, named by anything, and *rest_tokens* more. Two
    prompts share the blocks before the first that differs."""
    digests = tuple(
        xxh3_128_digest(repr(blocks[:count]).encode()) for count in range(1, len(blocks) + 1)
    )
    end = digests[-1] if digests else b""
    if rest_tokens:
        end = xxh3_128_digest(end + b"rest %d" % rest_tokens)
    block_bytes = block_tokens * BYTES_PER_TOKEN
    size_bytes = len(blocks) * block_bytes + rest_tokens * BYTES_PER_TOKEN
    return PromptKey(size_bytes, block_bytes, digests, end)


def make_request(request_id: str = "r", **changes: Any) -> PlacementRequest:
    """Make a request of one block that arrives at 0 and can wait for ever."""
    values: dict[str, Any] = {"model": MODEL, "key": make_key(request_id), "separable": True}
    values |= {"arrived_at": 0.0, "deadline_at": 1e9}
    return PlacementRequest(request_id=request_id, **(values | changes))


def make_waiting(
    serial: int = 1,
    *,
    slo_seconds: float = 5.0,
    prompt_tokens: float | None = None,
    **changes: Any,
) -> Waiting:
    """Make somebody who waits; *changes* are those of the request."""
    request = make_request(**({"request_id": f"r{serial}"} | changes))
    if prompt_tokens is None:
        prompt_tokens = request.key.size_bytes / BYTES_PER_TOKEN
    return Waiting(request, prompt_tokens, slo_seconds, serial)


def make_account(
    worker_id: str = "p", role: Role = Role.PREFILL, *, queue: Order | None = None, **worker: Any
) -> Account:
    """Make the account of an idle worker that takes requests."""
    made = make_worker(worker_id, role, **worker)
    queue = ByArrival() if queue is None else queue
    account = Account(made, queue, ModelStatistics(made.max_model_tokens), 0.0)
    account.is_ready = True
    return account
