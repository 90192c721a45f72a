"""Warming pairs up: the first transfer between two engines sets their connection up.

That is lazy in vLLM and takes up to seconds, which the first request would pay. A decode worker
therefore sends one short request through itself and each new incarnation of a prefill worker; that
is also the only honest check that the two can work together.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.errors import TwofoldError
from twofold_cluster.identity import Incarnation
from twofold_cluster.legs import (
    InvalidTransferParamsError,
    decode_leg,
    prefill_leg,
    transfer_params,
)
from twofold_cluster.membership import Roster, connect
from twofold_cluster.worker import Worker, WorkerState
from twofold_engine.settings import WorkerSettings

WARM_UP_TIMEOUT_SECONDS = 60.0
MAX_AT_ONCE = 16
"""Pairs that are being warmed up; those that have not failed go first."""

RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 60.0

_JSON = {"content-type": "application/json"}

_log = logging.getLogger(__name__)


class PairError(TwofoldError):
    """The two engines could not serve a request together."""


class Pairs:
    """What is known of the pairs with each incarnation of a prefill worker. Forgets those that
    have gone."""

    def __init__(self) -> None:
        self._warm: set[Incarnation] = set()
        self._under_way: set[Incarnation] = set()
        self._failure_counts: dict[Incarnation, int] = {}
        self._not_before: dict[Incarnation, float] = {}

    def cold(self, workers: list[Worker], own: Worker, now: float) -> list[Worker]:
        """Return the workers of *workers* that *own* can pair with and should try to, now: as many
        as may be tried beside those under way."""
        known = {worker.incarnation for worker in workers}
        self._warm &= known
        self._failure_counts = {i: n for i, n in self._failure_counts.items() if i in known}
        self._not_before = {i: at for i, at in self._not_before.items() if i in known}
        cold = [
            peer
            for peer in workers
            if _can_pair(peer, own)
            and peer.incarnation not in self._warm | self._under_way
            and self._not_before.get(peer.incarnation, now) <= now
        ]
        cold.sort(key=lambda peer: self._failure_counts.get(peer.incarnation, 0))
        return cold[: MAX_AT_ONCE - len(self._under_way)]

    def began(self, peer: Worker) -> None:
        """Hold the pair with *peer* for under way, until it has succeeded or failed."""
        self._under_way.add(peer.incarnation)

    def succeeded(self, peer: Worker) -> None:
        self._under_way.remove(peer.incarnation)
        self._warm.add(peer.incarnation)

    def failed(self, peer: Worker, now: float) -> None:
        """Have it tried again: later after each failure in a row, 5, 10, 20 … 60 s."""
        self._under_way.remove(peer.incarnation)
        count = self._failure_counts.get(peer.incarnation, 0)
        self._failure_counts[peer.incarnation] = count + 1
        pause_seconds = min(RETRY_SECONDS * 2 ** min(count, 10), MAX_RETRY_SECONDS)
        self._not_before[peer.incarnation] = now + pause_seconds


async def keep_pairs_warm(settings: WorkerSettings, own: Callable[[], Worker]) -> None:
    """Follow the membership, and warm up the pair with each prefill worker that joins."""
    if settings.redis is None:
        return
    changed = asyncio.Event()
    pairs = Pairs()
    async with (
        connect(settings.redis) as redis,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as tasks,
    ):
        roster = Roster(redis, settings.service, on_change=lambda *_: changed.set())
        tasks.create_task(roster.run())
        while True:
            changed.clear()
            for peer in pairs.cold(list(roster.workers.values()), own(), time.monotonic()):
                # Each by itself: one that hangs keeps no other waiting.
                pairs.began(peer)
                trying = tasks.create_task(_try_pair(session, pairs, peer, own()))
                trying.add_done_callback(lambda _: changed.set())
            await _wait(changed, RETRY_SECONDS)


def _can_pair(peer: Worker, own: Worker) -> bool:
    return (
        peer.role.prefills
        and peer.state is not WorkerState.DRAINING
        and peer.worker_id != own.worker_id
        and peer.revision == own.revision
        and peer.engine.compatibility == own.engine.compatibility
    )


async def _try_pair(
    session: aiohttp.ClientSession, pairs: Pairs, peer: Worker, own: Worker
) -> None:
    try:
        async with asyncio.timeout(WARM_UP_TIMEOUT_SECONDS):
            await _serve_one_token(session, peer, own)
    except (aiohttp.ClientError, TimeoutError, PairError, InvalidTransferParamsError) as error:
        _log.warning("the pair with %s is cold: %r", peer.worker_id, error)
        pairs.failed(peer, time.monotonic())
        return
    pairs.succeeded(peer)
    _log.info("the pair with %s is warm", peer.worker_id)


async def _serve_one_token(session: aiohttp.ClientSession, peer: Worker, own: Worker) -> None:
    prompt = {"model": own.model, "prompt": "Hello", "max_tokens": 1}
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in prompt.items()}
    answer = await _post(session, peer, prefill_leg(Api.COMPLETIONS, fields))
    # Blocks that this leg does not fetch, because it fails, end with their lease: one block.
    await _post(session, own, decode_leg(fields, transfer_params(answer)))


async def _post(session: aiohttp.ClientSession, worker: Worker, body: bytes) -> bytes:
    url = worker.address + Api.COMPLETIONS
    async with session.post(url, data=body, headers=_JSON) as response:
        answer = await response.read()
    if response.status != 200:
        text = answer[:500].decode(errors="replace")
        raise PairError(f"{worker.worker_id} answered {response.status}: {text}")
    return answer


async def _wait(changed: asyncio.Event, limit_seconds: float) -> None:
    try:
        async with asyncio.timeout(limit_seconds):
            await changed.wait()
    except TimeoutError:
        pass
