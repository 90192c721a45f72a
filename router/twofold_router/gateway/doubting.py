"""Workers that accept requests and answer none: their engines hang, whatever their health says.

Who has waited too long for a worker's first byte may have it doubted. A worker that has begun
another answer meanwhile, or whose cache is seen to fill or empty, is only busy. Any other is asked
for one token. If that does not come in time either, it is a suspect until it does, and nobody waits
there any longer: who has no first byte asks elsewhere, and begun streams are taken for broken.
"""

import asyncio
import dataclasses
import logging
from collections import Counter

import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.gateway.background import Background
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.request_timeout import Deadlines
from twofold_router.gateway.tickets import Desk
from twofold_router.gateway.upstream import Upstream
from twofold_router.http import AnswerTooLargeError, BrokenError, UnreachableError
from twofold_router.metrics import Leg, Metrics
from twofold_router.settings import RouterSettings

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Before a worker that was too busy for one more request is asked again."""

_BUSY = (429, 503)

Signs = tuple[int, float]
"""Answers that a worker has begun here, and the share of its KV cache in use as it reports."""


class Doubts:
    """Those of one gateway. A worker is on trial once at a time."""

    def __init__(
        self,
        settings: RouterSettings,
        desk: Desk,
        upstream: Upstream,
        background: Background,
        deadlines: Deadlines,
        metrics: Metrics,
    ) -> None:
        self._desk = desk
        self._upstream = upstream
        self._background = background
        self._deadlines = deadlines
        self._metrics = metrics
        self._max_answer_bytes = settings.max_answer_bytes
        self._renewal_seconds = settings.suspect_seconds / 2
        # Nobody waits for so small a request as for a prompt.
        self._trial_seconds = settings.first_byte_timeout_seconds / 4
        self._begun: Counter[WorkerId] = Counter()
        self._on_trial: set[WorkerId] = set()

    def hear(self, worker: Worker) -> None:
        """Take note that *worker* begins an answer."""
        self._begun[worker.worker_id] += 1

    def signs_of(self, worker: Worker) -> Signs:
        """Return what *worker* has done, to compare with later."""
        return self._begun[worker.worker_id], worker.load.kv_used_fraction

    def doubt(self, call: Call, worker: Worker, before: Signs) -> Signs:
        """Put *worker* on trial if it shows no signs of life but those of *before*, when it was
        sent *call*. Returns those that it shows now."""
        known = self._known(worker)
        if known is None or self._desk.is_stale:  # nobody tells of its cache
            return before
        now = self.signs_of(known)
        if now == before and worker.worker_id not in self._on_trial:
            self._on_trial.add(worker.worker_id)
            self._background.watch(self._try(call, worker))
        return now

    async def _try(self, call: Call, worker: Worker) -> None:
        answering = self._background.watch(self._answer(call, worker))
        is_hung = False
        pause_seconds = self._trial_seconds
        try:
            while True:
                await asyncio.wait([answering], timeout=pause_seconds)
                if answering.done() or self._known(worker) is None:
                    break
                if not is_hung:
                    is_hung = True
                    self._metrics.upstream_error(Leg.TRIAL, "timeout")
                    _log.warning("worker hangs", extra={"worker": worker.worker_id})
                self._desk.suspect(worker)
                self._deadlines.end_at(worker.worker_id)
                pause_seconds = self._renewal_seconds
            if is_hung and answering.done():
                _log.info("worker hangs no more", extra={"worker": worker.worker_id})
        finally:
            answering.cancel()
            self._on_trial.discard(worker.worker_id)

    async def _answer(self, call: Call, worker: Worker) -> None:
        """Return when *worker* has answered, or cannot: who fails is found out by others too."""
        fields = {"model": worker.model, "prompt": "a", "max_tokens": 1}
        body = msgspec.json.encode(fields)
        trial = dataclasses.replace(call, api=Api.COMPLETIONS)
        while True:
            try:
                async with self._upstream.post(worker, trial, body, Leg.TRIAL) as answer:
                    await answer.read(self._max_answer_bytes)
            except (UnreachableError, BrokenError, AnswerTooLargeError):
                return
            if answer.status not in _BUSY:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def _known(self, worker: Worker) -> Worker | None:
        """Return *worker* as it is now, None if this life of it is over."""
        for known in self._desk.workers:
            if known.worker_id == worker.worker_id and known.incarnation == worker.incarnation:
                return known
        return None
