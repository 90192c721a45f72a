"""A worker takes the beginning of a prompt out of another's cache, and computes the rest."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from twofold_cluster.identity import WorkerId
from twofold_cluster.legs import following_leg, prefix_source
from twofold_cluster.worker import Worker
from twofold_engine.prefixes import engine
from twofold_engine.prefixes.counters import Counters
from twofold_engine.prefixes.errors import CannotFindError, CannotPullError
from twofold_engine.prefixes.finding import Found, chain_of
from twofold_engine.prefixes.prompts import Prompt
from twofold_engine.prefixes.sources import (
    check_pair,
    check_pulls,
    choose_source,
    held_by,
    seconds_per_token,
    wanted_tokens,
    worker_named,
)

PRESENT, NO_ROOM, UNCLEAR = "present", "no_room", "unclear"
"""Outcomes that an engine does not count: there was nothing to pull; it did not try, since too
little of its cache was free; it has pulled for others meanwhile, with other outcomes."""


@dataclass(frozen=True, slots=True)
class PullReport:
    """What came of a pull. ``outcome`` is what the engine has counted, or one of those above."""

    source: WorkerId
    outcome: str
    pulled_block_count: int
    """While the worker was asked."""
    cached_token_count: int
    """In its cache when it began to compute, pulled or not."""
    token_count: int
    """Of the prompt."""
    wanted_token_count: int
    """In full blocks: of what the source may hold, what this worker can use. It has to compute at
    least the prompt's last token."""


class Lookup(Protocol):
    """The workers of a service, and what their caches hold."""

    async def workers(self) -> Mapping[WorkerId, Worker]:
        """Return those that are announced now."""

    async def find(self, workers: list[Worker], body: bytes) -> Found:
        """Find who of *workers* holds the prompt of *body*; the first names its blocks."""


class Puller:
    """Pulls one prompt at a time, so that what the engine counts meanwhile is of one of ours."""

    def __init__(self, own: Callable[[], Worker], lookup: Lookup) -> None:
        self._own = own
        self._lookup = lookup
        self._turn = asyncio.Lock()

    async def pull(self, prompt: Prompt, source_name: str | None) -> PullReport:
        """Pull the beginning of *prompt* from *source_name*; None: from who holds most.

        Raises:
            CannotPullError: these workers cannot.
            CannotFindError: nobody names the prompt's blocks, or says who holds them.
            InvalidPromptError: the engine refuses the prompt.
            NotAnsweredError: Redis or the engine does not answer.
        """
        own = self._own()
        check_pulls(own)
        source, held, found = await self._choose(own, prompt, source_name)
        wanted = wanted_tokens(found, held)
        asked = prefix_source(source, held, seconds_per_token(own))
        if asked is None:
            raise CannotPullError(f"{source.worker_id} is nowhere: {source.kv_side_channel}")
        # It follows nobody: it names a source, and asks for no lease, which nobody would read.
        leg = following_leg(prompt.api, prompt.fields, asked)
        async with self._turn, aiohttp.ClientSession() as session:
            before = await engine.count(session, own)
            computed = await engine.compute(session, own, prompt.api, leg)
            after = await engine.count(session, own)
        is_there = computed.cached_token_count >= wanted
        return PullReport(
            source=source.worker_id,
            outcome=outcome_of(before, after, is_there=is_there),
            pulled_block_count=max(0, after.block_count - before.block_count),
            cached_token_count=computed.cached_token_count,
            token_count=found.token_count,
            wanted_token_count=wanted,
        )

    async def _choose(
        self, own: Worker, prompt: Prompt, source_name: str | None
    ) -> tuple[Worker, int, Found]:
        """Return the source, how many tokens it is asked for, and what is known of the prompt."""
        workers = await self._lookup.workers()
        if source_name is None:
            others = [
                worker
                for worker in workers.values()
                if worker.revision == own.revision and worker.worker_id != own.worker_id
            ]
            if not any(worker.kv_events for worker in others):
                raise CannotFindError(
                    f"no other worker of {own.worker_id}'s revision tells of its blocks; name a"
                    " source, or have the workers publish their KV events"
                )
            found = await self._lookup.find([own, *others], prompt.body)
            return *choose_source(found, own, workers), found
        source = worker_named(source_name, workers)
        check_pair(source, own)
        found = await self._find_at(own, source, prompt)
        return source, held_by(source, found), found

    async def _find_at(self, own: Worker, source: Worker, prompt: Prompt) -> Found:
        """Find what *source* holds; nothing is said where it does not tell of its blocks."""
        if source.kv_events:
            return await self._lookup.find([own, source], prompt.body)
        chain = await chain_of(prompt.body, [own])
        return Found(own.revision, chain.token_count, chain.block_tokens, (), (source.worker_id,))


def outcome_of(before: Counters, after: Counters, *, is_there: bool) -> str:
    """Say what came of a pull, from what was counted *before* and *after* it; *is_there*: what was
    wanted was in the cache then, wherever it came from."""
    outcomes = list(after.pulls - before.pulls)
    if len(outcomes) > 1:
        return UNCLEAR
    if outcomes:
        return outcomes[0]
    return PRESENT if is_there else NO_ROOM
