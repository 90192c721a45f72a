"""Which workers hold the beginning of a prompt in their caches, as the block directory knows."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby

import aiohttp
import msgspec

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.membership import connect
from twofold_cluster.membership.entries import REDIS_IS_AWAY
from twofold_cluster.worker import Worker
from twofold_engine.chains import Chain
from twofold_engine.prefixes.engine import name_blocks
from twofold_engine.prefixes.errors import (
    CannotFindError,
    InvalidPromptError,
    NotAnsweredError,
    PrefixError,
)
from twofold_kvtransfer.directory import Directory, Holding


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


@asynccontextmanager
async def directory_at(redis_url: str, service: str) -> AsyncIterator[Directory]:
    """Open the block directory of *service*.

    Raises:
        NotAnsweredError: Redis is away, now or while it is asked.
    """
    try:
        async with connect(redis_url) as redis:
            yield Directory(redis, service)
    except REDIS_IS_AWAY as error:
        raise NotAnsweredError(f"the directory does not answer: {error!r}") from error


async def find_in_revision(directory: Directory, workers: Sequence[Worker], body: bytes) -> Found:
    """Find who of *workers*, all of one revision, holds the prompt of *body*, a request; the first
    of them that can names its blocks.

    Raises:
        CannotFindError: none can.
        InvalidPromptError: none can, and the last of them refuses the prompt.
    """
    chain = await chain_of(body, workers)
    holdings = await directory.find([bytes.fromhex(name) for name in chain.blocks])
    listed = {
        worker.worker_id
        for worker in workers
        if await directory.lists_all(worker.worker_id, worker.incarnation)
    }
    return found(chain, holdings, {worker.worker_id: worker for worker in workers}, listed)


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


def by_revision(workers: Iterable[Worker]) -> list[list[Worker]]:
    """Return the workers of each revision apart, in order of their revisions and ids."""
    ordered = sorted(workers, key=lambda worker: (worker.revision, worker.worker_id))
    return [list(group) for _, group in groupby(ordered, key=lambda worker: worker.revision)]


async def chain_of(body: bytes, workers: Iterable[Worker]) -> Chain:
    """Return the blocks of the prompt of *body*, as the first of *workers* that can names them.

    Raises:
        CannotFindError: none can.
        InvalidPromptError: none can, and the last of them refuses the prompt.
    """
    problem: PrefixError = CannotFindError("no worker names blocks")
    async with aiohttp.ClientSession() as session:
        for worker in workers:
            try:
                return await name_blocks(session, worker, body)
            except (InvalidPromptError, CannotFindError) as error:
                problem = error
    raise problem


def _lives(holding: Holding, worker: Worker | None) -> bool:
    return worker is not None and worker.incarnation == holding.incarnation
