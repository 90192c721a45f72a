"""Find the workers of the running cluster that hold the beginning of a prompt in their caches."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import aiohttp
import msgspec
from redis.exceptions import RedisError

from twofold_cli.errors import CliError
from twofold_cli.state import ClusterState, StateDirectory, running_cluster
from twofold_cli.status import EXIT_DEGRADED, EXIT_READY, read_announced
from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.membership import connect
from twofold_cluster.worker import Worker
from twofold_engine.chains import Chain
from twofold_engine.paths import PREFIX
from twofold_kvtransfer.directory import Directory, Holding

NAMING_LIMIT_SECONDS = 10.0
"""For a long prompt, in a process that serves others meanwhile."""


class CannotFindError(CliError):
    """Nobody names the prompt's blocks, or says who holds them."""


class Share(msgspec.Struct, frozen=True):
    """How much of the prompt one worker holds in one tier, from its first token on."""

    worker: WorkerId
    role: Role
    tier: str
    token_count: int
    degraded: bool
    """It may hold more."""


class Found(msgspec.Struct, frozen=True):
    """Which workers of one revision hold how much of a prompt, the most first.

    Another revision's may have other weights, under which the same names stand for other blocks.
    """

    revision: str
    token_count: int
    """Of the prompt. What the last tokens leave of a block is never held."""
    block_tokens: int
    shares: tuple[Share, ...]
    silent: tuple[WorkerId, ...]
    """Workers that may hold anything, since not all that they hold is listed."""
    problem: str | None = None
    """Why nothing is known of this revision; then nothing above is."""


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
    return asyncio.run(_find(running_cluster(directory), body))


def found(
    chain: Chain,
    holdings: Sequence[Holding],
    announced: Mapping[str, Worker],
    listed: Collection[WorkerId],
) -> Found:
    """Say what *holdings* are of the prompt. Of a worker that is not *announced* in the same
    incarnation there are none: nobody can fetch them. All that the *listed* ones hold is known.

    *announced*: workers of one revision, to whom the names in *chain* belong.
    """
    shares = tuple(
        Share(
            holding.worker_id,
            announced[holding.worker_id].role,
            holding.tier,
            holding.block_count * chain.block_tokens,
            holding.degraded,
        )
        for holding in holdings
        if _lives(holding, announced.get(holding.worker_id))
    )
    known = {*listed, *(share.worker for share in shares)}
    silent = sorted(
        worker.worker_id for worker in announced.values() if worker.worker_id not in known
    )
    (revision,) = {worker.revision for worker in announced.values()}
    return Found(revision, chain.token_count, chain.block_tokens, shares, tuple(silent))


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


async def find_in_revision(
    state: ClusterState, workers: Sequence[Worker], body: Mapping[str, Any]
) -> Found:
    """Find who of *workers*, all of one revision, holds the prompt of *body*; the first of them
    that can names its blocks.

    Raises:
        CannotFindError: it cannot be known.
    """
    async with _directory(state) as directory:
        what = await _find_in_revision(directory, workers, body)
    if what.problem is not None:
        raise CannotFindError(what.problem)
    return what


async def _find(state: ClusterState, body: Mapping[str, Any]) -> list[Found]:
    announced = await read_ready(state)
    if not any(worker.kv_events for worker in announced.values()):
        raise CannotFindError("no worker tells of its blocks; start the cluster with --kv-events")
    async with _directory(state) as directory:
        what = [
            await _find_in_revision(directory, workers, body)
            for workers in by_revision(announced.values())
        ]
    problems = [one.problem for one in what if one.problem is not None]
    if len(problems) == len(what):
        raise CannotFindError(problems[0])
    return what


def by_revision(workers: Iterable[Worker]) -> list[list[Worker]]:
    """Return the workers of each revision apart, in order of their revisions and ids."""
    ordered = sorted(workers, key=lambda worker: (worker.revision, worker.worker_id))
    return [list(group) for _, group in groupby(ordered, key=lambda worker: worker.revision)]


@asynccontextmanager
async def _directory(state: ClusterState) -> AsyncIterator[Directory]:
    try:
        async with connect(state.redis_url) as redis:
            yield Directory(redis, state.service)
    except (RedisError, OSError, TimeoutError) as error:
        raise CannotFindError(f"the directory does not answer: {error!r}") from error


async def _find_in_revision(
    directory: Directory, workers: Sequence[Worker], body: Mapping[str, Any]
) -> Found:
    """Find who of *workers*, all of one revision, holds the prompt; say so if none can name it."""
    try:
        chain = await chain_of(body, workers)
    except CannotFindError as error:
        return Found(workers[0].revision, 0, 0, (), (), problem=str(error))
    holdings = await directory.find([bytes.fromhex(name) for name in chain.blocks])
    listed = {
        worker.worker_id
        for worker in workers
        if await directory.lists_all(worker.worker_id, worker.incarnation)
    }
    return found(chain, holdings, {worker.worker_id: worker for worker in workers}, listed)


async def chain_of(body: Mapping[str, Any], workers: Iterable[Worker]) -> Chain:
    """Return the blocks of the prompt of *body*, as the first of *workers* that can names them.

    Raises:
        CannotFindError: none can.
    """
    problem = "no worker names blocks"
    async with aiohttp.ClientSession() as session:
        for worker in workers:
            try:
                async with asyncio.timeout(NAMING_LIMIT_SECONDS):
                    return await _ask(session, worker, body)
            except (CannotFindError, aiohttp.ClientError, TimeoutError) as error:
                why = str(error) or "no answer in time"
                problem = f"{worker.worker_id} does not name the prompt's blocks: {why}"
    raise CannotFindError(problem)


async def _ask(session: aiohttp.ClientSession, worker: Worker, body: Mapping[str, Any]) -> Chain:
    async with session.post(f"{worker.address}{PREFIX}/chain", json=body) as response:
        answer = await response.read()
    if response.status != 200:
        raise CannotFindError(f"{response.status}: {answer.decode(errors='replace')[:500]}")
    try:
        return msgspec.json.decode(answer, type=Chain)
    except msgspec.DecodeError as error:
        raise CannotFindError(str(error)) from error


def _lives(holding: Holding, worker: Worker | None) -> bool:
    return worker is not None and worker.incarnation == holding.incarnation
