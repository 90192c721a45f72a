"""The desk of a gateway process, whose placement is in another process."""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence

from twofold_cluster.errors import Fault
from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.gateway.catalogue import Catalogue
from twofold_router.gateway.partners import partner_of
from twofold_router.gateway.suspects import Suspects
from twofold_router.placement import (
    Decision,
    Dispatch,
    Outcome,
    PlacementRequest,
    PromptUsage,
    Refuse,
)
from twofold_router.processes.link import Handlers
from twofold_router.processes.messages import (
    Cancel,
    DecodeMoved,
    Finish,
    Message,
    MoveDecode,
    Placed,
    PromptComputed,
    Refused,
    Stale,
    Submit,
    Suspect,
    Welcome,
    WorkersChanged,
)

RETRY_AFTER_SECONDS = 1


class RemoteDesk:
    """Implements Desk with messages, and a copy of what the placement process knows of workers.

    Times are those of CLOCK_MONOTONIC, which all processes of a machine share.

    Invariant: ``_deciders`` and ``_moves`` have exactly those whose answers are awaited; once the
    placement process is lost there are none.
    """

    def __init__(
        self,
        process: int,
        send: Callable[[Message], None],
        *,
        suspect_seconds: float = 1.0,
        keeps_names: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*process* is a number that no other process of this router ever had. *keeps_names*: as
        of a Dispatcher."""
        self.welcomed = asyncio.Event()
        """Set when the workers are known, or never will be."""
        self._process = process
        self._send = send
        self._clock = clock
        self._suspects = Suspects(suspect_seconds)
        self._workers: dict[WorkerId, Worker] = {}
        self._catalogue = Catalogue(keeps_gone=keeps_names)
        self._is_stale = False
        self._is_lost = False
        self._serial = itertools.count(1)
        self._deciders: dict[str, Callable[[Decision], None]] = {}
        self._moves: dict[str, asyncio.Future[Worker | None]] = {}

    # Desk

    @property
    def workers(self) -> Sequence[Worker]:
        return tuple(self._workers.values())

    @property
    def models(self) -> Mapping[str, str]:
        return self._catalogue.models

    @property
    def is_stale(self) -> bool:
        return self._is_stale

    def now(self) -> float:
        return self._clock()

    def unique_id(self) -> str:
        return f"{self._process}.{next(self._serial)}"

    def submit(self, request: PlacementRequest, decide: Callable[[Decision], None]) -> None:
        if self._is_lost:
            decide(_refusal(request.request_id))
            return
        self._deciders[request.request_id] = decide
        self._send(Submit(request))

    def cancel(self, request_id: str) -> None:
        del self._deciders[request_id]
        self._send(Cancel(request_id))

    def prefilled(self, request_id: str, usage: PromptUsage | None) -> None:
        self._send(PromptComputed(request_id, usage))

    async def move_decode(self, request_id: str, avoid: frozenset[WorkerId]) -> Worker | None:
        if self._is_lost:
            return None
        move: asyncio.Future[Worker | None] = asyncio.get_running_loop().create_future()
        self._moves[request_id] = move
        self._send(MoveDecode(request_id, avoid))
        try:
            return await move
        finally:
            self._moves.pop(request_id, None)

    def finished(self, request_id: str, outcome: Outcome | None) -> None:
        self._send(Finish(request_id, outcome))

    def suspect(self, worker: Worker) -> None:
        doubt = Suspect(worker.worker_id, worker.incarnation)
        self._take_suspect(doubt)
        self._send(doubt)

    def is_suspect(self, worker: Worker) -> bool:
        return self._suspects.has(worker, self._clock())

    def partner_of(self, prefill: Worker, name: str, avoid: frozenset[WorkerId]) -> Worker | None:
        marked = self._suspects.mark(self._workers.values(), self._clock())
        return partner_of(marked, prefill, name, avoid)

    # Messages

    def handlers(self) -> Handlers:
        """Return what is done with the messages that are a desk's."""
        return {
            Welcome: self._take_welcome,
            WorkersChanged: self._take_workers,
            Stale: self._take_stale,
            Suspect: self._take_suspect,
            Placed: self._take_placed,
            Refused: self._take_refused,
            DecodeMoved: self._take_moved,
        }

    def _take_welcome(self, message: Welcome) -> None:
        self._take_workers(WorkersChanged(message.workers, []))
        self._is_stale = message.is_stale
        self.welcomed.set()

    def _take_workers(self, message: WorkersChanged) -> None:
        self._workers.update((worker.worker_id, worker) for worker in message.changed)
        self._catalogue.follow(message.changed, message.gone)
        for worker_id in message.gone:
            self._workers.pop(worker_id, None)

    def _take_stale(self, message: Stale) -> None:
        self._is_stale = message.is_stale

    def _take_suspect(self, message: Suspect) -> None:
        known = self._workers.get(message.worker_id)
        if known is not None and known.incarnation == message.incarnation:
            self._suspects.add(known, self._clock())

    def _take_placed(self, message: Placed) -> None:
        decide = self._deciders.pop(message.request_id, None)
        if decide is None:
            return  # cancelled meanwhile, and given back there
        workers = self._workers
        decide(
            Dispatch(
                request_id=message.request_id,
                prefill=None if message.prefill is None else workers[message.prefill],
                decode=workers[message.decode],
                mode=message.mode,
                reason=message.reason,
                prompt_tokens=message.prompt_tokens,
                cached_tokens=message.cached_tokens,
                ttft_seconds=message.ttft_seconds,
                decided_at=message.decided_at,
                prefix_source=message.prefix_source,
            )
        )

    def _take_refused(self, message: Refused) -> None:
        decide = self._deciders.pop(message.request_id, None)
        if decide is not None:
            decide(message.refusal())

    def _take_moved(self, message: DecodeMoved) -> None:
        move = self._moves.pop(message.request_id, None)
        if move is not None and not move.done():
            move.set_result(None if message.worker_id is None else self._workers[message.worker_id])

    def lose(self) -> None:
        """Refuse those who wait, and all who come: nobody places any more."""
        self._is_lost = self._is_stale = True
        self.welcomed.set()
        deciders, self._deciders = self._deciders, {}
        for request_id, decide in deciders.items():
            decide(_refusal(request_id))
        for request_id in list(self._moves):
            self._take_moved(DecodeMoved(request_id, None))


def _refusal(request_id: str) -> Refuse:
    message = "this router is ending: its placement process has gone"
    return Refuse(request_id, Fault.DRAINING, message, RETRY_AFTER_SECONDS)
