"""Have a worker of the running cluster keep the blocks of a prompt, and let go of them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from rich.console import Console

from twofold_cli.errors import BadArgumentError
from twofold_cli.kv_prefixes import asking, worker_named
from twofold_cli.showing import age, say
from twofold_cli.state import ClusterState, StateDirectory, running_cluster
from twofold_cluster.identity import WorkerId
from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_kvtransfer.leases import MAX_PIN_SECONDS

PIN_LIMIT_SECONDS = 660.0
"""For a worker that has others to serve first, and then computes the prompt; it gives up before."""

UNPIN_LIMIT_SECONDS = 30.0


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt whose blocks a worker keeps."""

    worker: WorkerId
    request_id: str
    """What it is unpinned by."""
    token_count: int
    """Of the prompt."""
    cached_token_count: int
    """That had not to be computed."""
    left_seconds: float


def pin_in_cluster(
    directory: StateDirectory, body: Mapping[str, Any], *, on: str, seconds: float
) -> Pinned:
    """Have the worker *on* keep the blocks of the prompt of *body* for *seconds*.

    Raises:
        NotRunningError: there is no cluster.
        BadArgumentError: for no time, or for too long.
        CannotFindError: it cannot be known which workers there are.
        RefusedError: the worker refuses, or does not answer.
    """
    if not 0 < seconds <= MAX_PIN_SECONDS:
        raise BadArgumentError(f"--seconds must be more than 0, and at most {MAX_PIN_SECONDS:.0f}")
    return asyncio.run(_pin(running_cluster(directory), body, on, seconds))


def unpin_in_cluster(directory: StateDirectory, request_id: str, *, on: str) -> None:
    """Have the worker *on* let go of what it keeps for *request_id*.

    Raises:
        NotRunningError: there is no cluster.
        CannotFindError: it cannot be known which workers there are.
        RefusedError: the worker has no such pin, or does not answer.
    """
    asyncio.run(_unpin(running_cluster(directory), request_id, on))


def as_json(pinned: Pinned) -> str:
    return msgspec.json.encode(pinned).decode()


def show_pin(pinned: Pinned, console: Console) -> None:
    worker, tokens = pinned.worker, pinned.token_count
    was_there = f"{pinned.cached_token_count} of them were in its cache"
    say(console, f"{worker} keeps {tokens} tokens for {age(pinned.left_seconds)}; {was_there}")
    say(console, f"end it with: twofold kv unpin {pinned.request_id} --on {worker}")


async def _pin(state: ClusterState, body: Mapping[str, Any], on: str, seconds: float) -> Pinned:
    worker = await worker_named(state, on)
    request = pb.PinRequest(request=msgspec.json.encode(body).decode(), seconds=seconds)
    async with asking(worker) as stub:
        reply: pb.PinReply = await stub.Pin(request, timeout=PIN_LIMIT_SECONDS)
    return Pinned(
        worker=worker.worker_id,
        request_id=reply.request_id,
        token_count=reply.token_count,
        cached_token_count=reply.cached_token_count,
        left_seconds=reply.left_seconds,
    )


async def _unpin(state: ClusterState, request_id: str, on: str) -> None:
    worker = await worker_named(state, on)
    async with asking(worker) as stub:
        await stub.Unpin(pb.UnpinRequest(request_id=request_id), timeout=UNPIN_LIMIT_SECONDS)
