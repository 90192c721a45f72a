"""Have a worker of the running cluster take the beginning of a prompt out of another's cache."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from twofold_cli.finding import CannotFindError, Found, chain_of, find_in_revision, read_ready
from twofold_cli.pull_reports import Counters, Report, read_counters, report
from twofold_cli.pull_sources import (
    CannotPullError,
    check_pair,
    check_pulls,
    choose_source,
    held_by,
    seconds_per_token,
    worker_named,
)
from twofold_cli.state import ClusterState, StateDirectory, running_cluster
from twofold_cluster.apis import Api
from twofold_cluster.identity import WorkerId
from twofold_cluster.legs import PrefixSource, prefix_source
from twofold_cluster.worker import Worker
from twofold_kvtransfer.prefixes import PARAM

ANSWER_LIMIT_SECONDS = 600.0
"""For a worker that has others to serve first, and then computes what it could not pull."""

COUNTERS_LIMIT_SECONDS = 10.0


def pull_in_cluster(
    directory: StateDirectory, body: Mapping[str, Any], *, to: str, source: str | None
) -> Report:
    """Have the worker *to* pull the beginning of the prompt of *body* and compute the rest.

    *source*: from which worker; None: the one that is known to hold most of it.

    Raises:
        NotRunningError: there is no cluster.
        BadArgumentError: a worker is to pull from itself.
        CannotFindError: nobody names the prompt's blocks, or says who holds them.
        CannotPullError: these workers cannot, or the one refuses or does not answer.
    """
    return asyncio.run(_pull(running_cluster(directory), body, to, source))


def request_body(body: Mapping[str, Any], target: Worker, source: PrefixSource) -> dict[str, Any]:
    """Return what *target* is sent: the prompt of *body*, for one token.

    It does not ask for a remote decode, so that no lease is granted, which nobody would read.
    """
    return {
        "model": target.model,
        **body,
        "max_tokens": 1,
        "kv_transfer_params": {PARAM: msgspec.to_builtins(source)},
    }


def wanted_tokens(found: Found, held: int) -> int:
    """Return how many of the *held* tokens the prompt's worker can use, in full blocks.

    Raises:
        CannotPullError: none.
    """
    wanted = min(held, found.token_count - 1) // found.block_tokens * found.block_tokens
    if wanted <= 0:
        raise CannotPullError(
            f"nothing of a prompt of {found.token_count} tokens can be pulled: that takes a full"
            f" block of {found.block_tokens} and a token more"
        )
    return wanted


def cached_tokens(worker_id: WorkerId, status: int, answer: bytes) -> int:
    """Return how many tokens of the prompt were cached, as the *answer* to it says.

    Raises:
        CannotPullError: it says nothing of that.
    """
    if status != 200:
        refusal = answer.decode(errors="replace")[:500]
        raise CannotPullError(f"{worker_id} refuses the prompt: {status}: {refusal}")
    try:
        details = msgspec.json.decode(answer, type=_Completion).usage.prompt_tokens_details
    except msgspec.DecodeError as error:
        raise CannotPullError(f"{worker_id} does not say what was cached: {error}") from error
    return (details.cached_tokens or 0) if details is not None else 0


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens_details: _Details | None = None


class _Completion(msgspec.Struct, frozen=True):
    usage: _Usage


async def _pull(state: ClusterState, body: Mapping[str, Any], to: str, named: str | None) -> Report:
    workers = await read_ready(state)
    target = worker_named(to, workers)
    check_pulls(target)
    if named is None:
        found = await _find(state, body, target, workers)
        source, held = choose_source(found, target, workers)
    else:
        source = worker_named(named, workers)
        check_pair(source, target)
        found = await _find_at(state, body, target, source)
        held = held_by(source, found)
    wanted = wanted_tokens(found, held)
    asked = prefix_source(source, held, seconds_per_token(target))
    if asked is None:
        raise CannotPullError(f"{source.worker_id} is nowhere: {source.kv_side_channel}")
    before, cached, after = await _ask(target, request_body(body, target, asked))
    return report(
        before,
        after,
        target=target.worker_id,
        source=source.worker_id,
        token_count=found.token_count,
        wanted_token_count=wanted,
        cached_token_count=cached,
    )


async def _find(
    state: ClusterState, body: Mapping[str, Any], target: Worker, workers: Mapping[WorkerId, Worker]
) -> Found:
    """Find who holds the prompt under the names that *target* gives its blocks.

    Raises:
        CannotFindError: it cannot be known.
    """
    others = [
        worker
        for worker in workers.values()
        if worker.revision == target.revision and worker.worker_id != target.worker_id
    ]
    if not any(worker.kv_events for worker in others):
        raise CannotFindError(
            f"no other worker of {target.worker_id}'s revision tells of its blocks; name one with"
            " --from, or start the cluster with --kv-events"
        )
    return await find_in_revision(state, [target, *others], body)


async def _find_at(
    state: ClusterState, body: Mapping[str, Any], target: Worker, source: Worker
) -> Found:
    """Find what *source* holds; nothing is said of that where it does not tell of its blocks.

    Raises:
        CannotFindError: *target* does not name the prompt's blocks.
    """
    if source.kv_events:
        return await find_in_revision(state, [target, source], body)
    chain = await chain_of(body, [target])
    return Found(target.revision, chain.token_count, chain.block_tokens, (), (source.worker_id,))


async def _ask(target: Worker, body: Mapping[str, Any]) -> tuple[Counters, int, Counters]:
    """Send *body*; return how many tokens were cached, between the counters before and after.

    An engine's counters have what an answer is about before the answer has its last byte: vLLM's
    API server takes in both in one go.

    Raises:
        CannotPullError: no answer, or a refusal.
    """
    path = Api.CHAT if "messages" in body else Api.COMPLETIONS
    try:
        async with aiohttp.ClientSession() as session:
            before = await _counters(session, target)
            async with (
                asyncio.timeout(ANSWER_LIMIT_SECONDS),
                session.post(f"{target.address}{path}", json=body, timeout=_timeout()) as response,
            ):
                cached = cached_tokens(target.worker_id, response.status, await response.read())
            return before, cached, await _counters(session, target)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        why = str(error) or "not in time"
        raise CannotPullError(f"no answer from {target.worker_id}: {why}") from error


async def _counters(session: aiohttp.ClientSession, worker: Worker) -> Counters:
    async with (
        asyncio.timeout(COUNTERS_LIMIT_SECONDS),
        session.get(f"{worker.address}/metrics") as response,
    ):
        response.raise_for_status()
        return read_counters(await response.text())


def _timeout() -> aiohttp.ClientTimeout:
    """Leave the whole to ``asyncio.timeout``: aiohttp would end it after five minutes."""
    return aiohttp.ClientTimeout(total=None)
