"""Have a worker of the running cluster take the beginning of a prompt out of another's cache."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from twofold_cli.errors import BadArgumentError
from twofold_cli.kv_prefixes import asking, worker_named
from twofold_cli.pull_reports import Report, outcome_name
from twofold_cli.state import ClusterState, StateDirectory, running_cluster
from twofold_cluster.identity import WorkerId
from twofold_cluster.rpc import kvtransfer_pb2 as pb

ANSWER_LIMIT_SECONDS = 660.0
"""For a worker that has others to serve first, and then computes what it could not pull; it gives
up before."""


def pull_in_cluster(
    directory: StateDirectory, body: Mapping[str, Any], *, to: str, source: str | None
) -> Report:
    """Have the worker *to* pull the beginning of the prompt of *body* and compute the rest.

    *source*: from which worker; None: the one that is known to hold most of it.

    Raises:
        NotRunningError: there is no cluster.
        BadArgumentError: a worker is to pull from itself.
        CannotFindError: it cannot be known which workers there are.
        RefusedError: the worker cannot, refuses or does not answer.
    """
    if source == to:
        raise BadArgumentError(f"{to} cannot pull out of its own cache")
    return asyncio.run(_pull(running_cluster(directory), body, to, source))


async def _pull(
    state: ClusterState, body: Mapping[str, Any], to: str, source: str | None
) -> Report:
    target = await worker_named(state, to)
    request = pb.PullRequest(request=msgspec.json.encode(body).decode(), source_worker=source or "")
    async with asking(target) as stub:
        reply: pb.PullReply = await stub.Pull(request, timeout=ANSWER_LIMIT_SECONDS)
    return Report(
        target=target.worker_id,
        source=WorkerId(reply.source),
        outcome=outcome_name(reply.outcome),
        token_count=reply.token_count,
        wanted_token_count=reply.wanted_token_count,
        cached_token_count=reply.cached_token_count,
        pulled_block_count=reply.pulled_block_count,
    )
