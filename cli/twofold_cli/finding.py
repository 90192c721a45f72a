"""Find the workers of the running cluster that hold the beginning of a prompt in their caches."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from twofold_cli.errors import CliError
from twofold_cli.state import ClusterState, StateDirectory, running_cluster
from twofold_cli.status import EXIT_DEGRADED, EXIT_READY, read_announced
from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_engine.prefixes.errors import NotAnsweredError, PrefixError
from twofold_engine.prefixes.finding import Found, by_revision, directory_at, find_in_revision
from twofold_kvtransfer.directory import Directory


class CannotFindError(CliError):
    """Nobody names the prompt's blocks, or says who holds them."""


def prompt_body(prompt: str, *, model: str | None, is_chat: bool) -> dict[str, Any]:
    """Return what a client would send, as far as it decides how the blocks are named.

    *is_chat*: as the first message of a conversation, and not as it stands.
    """
    asked = {"messages": [{"role": "user", "content": prompt}]} if is_chat else {"prompt": prompt}
    return asked if model is None else asked | {"model": model}


def find_in_cluster(directory: StateDirectory, body: Mapping[str, Any]) -> list[Found]:
    """Find who holds the prompt of *body*, in each revision that has workers.

    Raises:
        NotRunningError: there is no cluster.
        CannotFindError: it cannot be known.
    """
    return asyncio.run(_find(running_cluster(directory), msgspec.json.encode(body)))


def exit_code(what: Sequence[Found]) -> int:
    is_whole = not any(one.silent or one.problem for one in what)
    return EXIT_READY if is_whole else EXIT_DEGRADED


def as_json(what: Sequence[Found]) -> str:
    return msgspec.json.encode({"revisions": what}).decode()


async def read_ready(state: ClusterState) -> dict[WorkerId, Worker]:
    """Return the workers that announce themselves, by id; at least one.

    Raises:
        CannotFindError: there is none, or Redis is away.
    """
    announced = await read_announced(state)
    if announced is None:
        raise CannotFindError("Redis does not say which workers there are")
    if not announced:
        raise CannotFindError("no worker is ready")
    return {worker.worker_id: worker for worker in announced.values()}


async def _find(state: ClusterState, body: bytes) -> list[Found]:
    announced = await read_ready(state)
    if not any(worker.kv_events for worker in announced.values()):
        raise CannotFindError("no worker tells of its blocks; start the cluster with --kv-events")
    try:
        async with directory_at(state.redis_url, state.service) as directory:
            revisions = by_revision(announced.values())
            what = [await _find_or_say_why(directory, workers, body) for workers in revisions]
    except NotAnsweredError as error:
        raise CannotFindError(str(error)) from error
    problems = [one.problem for one in what if one.problem is not None]
    if len(problems) == len(what):
        raise CannotFindError(problems[0])
    return what


async def _find_or_say_why(directory: Directory, workers: Sequence[Worker], body: bytes) -> Found:
    """Find who of *workers*, all of one revision, holds the prompt; say so if none can name it."""
    try:
        return await find_in_revision(directory, workers, body)
    except PrefixError as error:
        return Found(workers[0].revision, 0, 0, (), (), problem=str(error))
