"""A worker's engine, asked over its HTTP API as its clients do."""

import asyncio
from dataclasses import dataclass

import aiohttp
import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.worker import Worker
from twofold_engine.chains import Chain
from twofold_engine.paths import PREFIX
from twofold_engine.prefixes.counters import Counters, read_counters
from twofold_engine.prefixes.errors import CannotFindError, InvalidPromptError, NotAnsweredError

NAMING_LIMIT_SECONDS = 10.0
"""For a long prompt, in a process that serves others meanwhile."""

ANSWER_LIMIT_SECONDS = 600.0
"""For a worker that has others to serve first, and then computes the prompt."""

COUNTERS_LIMIT_SECONDS = 10.0

_JSON = {"content-type": "application/json"}
_REFUSALS = (400, 404, 413, 422)
"""Another prompt, or another model, would be answered otherwise."""


@dataclass(frozen=True, slots=True)
class Computed:
    """What an answer of one token says of its prompt."""

    token_count: int
    cached_token_count: int
    answer: bytes


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    prompt_tokens_details: _Details | None = None


class _Completion(msgspec.Struct, frozen=True):
    usage: _Usage


async def name_blocks(session: aiohttp.ClientSession, worker: Worker, body: bytes) -> Chain:
    """Have *worker* name the blocks of the prompt of *body*, a request.

    Raises:
        CannotFindError: it does not, or says nothing.
        InvalidPromptError: it refuses the prompt.
    """
    who = f"{worker.worker_id} does not name the prompt's blocks"
    url = f"{worker.address}{PREFIX}/chain"
    try:
        async with (
            asyncio.timeout(NAMING_LIMIT_SECONDS),
            session.post(url, data=body, headers=_JSON) as response,
        ):
            answer = await response.read()
        if response.status != 200:
            kind = InvalidPromptError if response.status in _REFUSALS else CannotFindError
            raise kind(f"{who}: {response.status}: {_text(answer)}")
        return msgspec.json.decode(answer, type=Chain)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        raise CannotFindError(f"{who}: {str(error) or 'no answer in time'}") from error


async def compute(session: aiohttp.ClientSession, worker: Worker, api: Api, leg: bytes) -> Computed:
    """Send *worker* the request *leg*, for one token.

    Raises:
        InvalidPromptError: it refuses the prompt.
        NotAnsweredError: it takes no requests now, fails, or does not answer.
    """
    try:
        async with (
            asyncio.timeout(ANSWER_LIMIT_SECONDS),
            session.post(
                f"{worker.address}{api}", data=leg, headers=_JSON, timeout=_timeout()
            ) as response,
        ):
            answer = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or "not in time"
        raise NotAnsweredError(f"no answer from {worker.worker_id}: {why}") from error
    return read_answer(worker.worker_id, response.status, answer)


def read_answer(worker_id: str, status: int, answer: bytes) -> Computed:
    """Read what *worker_id* has answered.

    Raises:
        InvalidPromptError: it refuses the prompt.
        NotAnsweredError: it takes no requests now, has failed, or says nothing of the prompt.
    """
    if status != 200:
        kind = InvalidPromptError if status in _REFUSALS else NotAnsweredError
        raise kind(f"{worker_id} refuses the prompt: {status}: {_text(answer)}")
    try:
        usage = msgspec.json.decode(answer, type=_Completion).usage
    except msgspec.DecodeError as error:
        raise NotAnsweredError(f"{worker_id} does not say what was cached: {error}") from error
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    return Computed(usage.prompt_tokens, cached, answer)


async def count(session: aiohttp.ClientSession, worker: Worker) -> Counters:
    """Return what *worker* has counted of prefixes.

    Raises:
        NotAnsweredError: it does not say.
    """
    try:
        async with (
            asyncio.timeout(COUNTERS_LIMIT_SECONDS),
            session.get(f"{worker.address}/metrics") as response,
        ):
            response.raise_for_status()
            return read_counters(await response.text())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        why = str(error) or "not in time"
        raise NotAnsweredError(f"{worker.worker_id} does not show its metrics: {why}") from error


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace")[:500]


def _timeout() -> aiohttp.ClientTimeout:
    """Leave the whole to ``asyncio.timeout``: aiohttp would end it after five minutes."""
    return aiohttp.ClientTimeout(total=None)
