"""Warming pairs up: the first transfer between two engines sets their connection up.

That is lazy in vLLM and takes up to seconds, which the first request would pay. A decode worker
therefore sends one short request through itself and each new incarnation of a prefill worker; that
is also the only honest check that the two can work together.
"""

import asyncio
import logging
from collections.abc import Callable

import aiohttp

from twofold_cluster.identity import Incarnation
from twofold_cluster.legs import (
    Api,
    InvalidTransferParamsError,
    decode_leg,
    prefill_leg,
    transfer_params,
)
from twofold_cluster.membership import Roster, connect
from twofold_cluster.worker import Worker, WorkerState
from twofold_engine.settings import WorkerSettings

WARM_UP_TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = 2.0
MAX_TRIES = 5

_log = logging.getLogger(__name__)


class PairError(Exception):
    """The two engines could not serve a request together."""


async def keep_pairs_warm(settings: WorkerSettings, own: Callable[[], Worker]) -> None:
    """Follow the membership, and warm up the pair with each prefill worker that joins."""
    if settings.redis is None:
        return
    changed = asyncio.Event()
    tried: dict[Incarnation, int] = {}
    async with (
        connect(settings.redis) as redis,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as tasks,
    ):
        roster = Roster(redis, settings.service, on_change=changed.set)
        tasks.create_task(roster.run())
        while True:
            changed.clear()
            for peer in _cold_peers(roster, own(), tried):
                await _try_pair(session, peer, own(), tried)
            await _wait(changed, RETRY_SECONDS)


def _cold_peers(roster: Roster, own: Worker, tried: dict[Incarnation, int]) -> list[Worker]:
    return [
        peer
        for peer in roster.workers.values()
        if peer.role.prefills
        and peer.state is WorkerState.READY
        and peer.worker_id != own.worker_id
        and peer.revision == own.revision
        and peer.engine.compatibility == own.engine.compatibility
        and tried.get(peer.incarnation, 0) < MAX_TRIES
    ]


async def _try_pair(
    session: aiohttp.ClientSession, peer: Worker, own: Worker, tried: dict[Incarnation, int]
) -> None:
    tried[peer.incarnation] = tried.get(peer.incarnation, 0) + 1
    try:
        async with asyncio.timeout(WARM_UP_TIMEOUT_SECONDS):
            await _serve_one_token(session, peer, own)
    except (aiohttp.ClientError, TimeoutError, PairError, InvalidTransferParamsError) as error:
        _log.warning("pair is cold", extra={"peer": peer.worker_id, "error": repr(error)})
        return
    tried[peer.incarnation] = MAX_TRIES
    _log.info("pair is warm with %s", peer.worker_id)


async def _serve_one_token(session: aiohttp.ClientSession, peer: Worker, own: Worker) -> None:
    body = {"model": own.model, "prompt": "Hello", "max_tokens": 1}
    answer = await _post(session, peer, prefill_leg(Api.COMPLETIONS, body))
    await _post(session, own, decode_leg(body, transfer_params(answer)))


async def _post(
    session: aiohttp.ClientSession, worker: Worker, body: dict[str, object]
) -> dict[str, object]:
    async with session.post(worker.address + Api.COMPLETIONS, json=body) as response:
        answer: object = await response.json(content_type=None)
    if response.status != 200 or not isinstance(answer, dict):
        raise PairError(f"{worker.worker_id} answered {response.status}: {answer}")
    return answer


async def _wait(changed: asyncio.Event, limit_seconds: float) -> None:
    try:
        async with asyncio.timeout(limit_seconds):
            await changed.wait()
    except TimeoutError:
        pass
