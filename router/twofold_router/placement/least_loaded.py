"""The least loaded prefill worker, the least loaded decode worker, one queue before them."""

from collections.abc import Iterable

from twofold_cluster.errors import Fault
from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.placement.books import Account, Books, Holding
from twofold_router.placement.candidates import (
    Candidates,
    least_decoding,
    least_unprefilled,
    sort_out,
)
from twofold_router.placement.interface import (
    Decision,
    Dispatch,
    Mode,
    PlacementRequest,
    PlacementSettings,
    PlacementSnapshot,
    Reason,
    Refuse,
)

RETRY_AFTER_SECONDS = 1
"""A queue that is full now moves on within a prefill or two."""

# Leg 1 was done, or the worker does not speak our protocol: computing it again is no policy of
# what to do without a prefill worker.
_NOT_FOR_WANT_OF_PREFILL = (Reason.INVALID_PARAMS, Reason.TRANSFER_FAILED)


class LeastLoaded:
    """First come, first served, except that nobody waits behind one who waits for another worker.

    Invariant: a request that was submitted is in ``_waiting`` or in ``_holdings``, never in both,
    until it was refused, withdrawn or finished. After every event nobody waits who could go.
    """

    def __init__(self, settings: PlacementSettings) -> None:
        self._settings = settings
        self._books = Books()
        self._candidates: Candidates = sort_out(())
        self._waiting: dict[str, PlacementRequest] = {}
        self._holdings: dict[str, Holding] = {}

    def set_workers(self, workers: Iterable[Worker], now: float) -> list[Decision]:
        self._books.replace(workers)
        self._candidates = sort_out(self._books.ready())
        return self._serve_waiting(everyone=True)

    def submit(self, request: PlacementRequest, now: float) -> list[Decision]:
        request_id = request.request_id
        assert request_id not in self._waiting, request_id
        assert request_id not in self._holdings, request_id
        decision = self._decide(request)
        if decision is None and len(self._waiting) >= self._settings.max_queued:
            decision = self._turn_away(request)
        if decision is None:
            self._waiting[request_id] = request
            return []
        return [decision]

    def prefilled(self, request_id: str, now: float) -> list[Decision]:
        self._books.give_back_prefill(self._holdings[request_id])
        return self._serve_waiting()

    def move_decode(self, request_id: str, avoid: frozenset[WorkerId], now: float) -> Worker | None:
        holding = self._holdings[request_id]
        if holding.source is None:
            accounts = self._candidates.decode(holding.model, avoid)
        else:
            accounts = self._candidates.partners(holding.source, avoid)
        if not accounts:
            return None
        account = least_decoding(accounts)
        self._books.move_decode(holding, account)
        return account.worker

    def finished(self, request_id: str, now: float) -> list[Decision]:
        self._books.give_back(self._holdings.pop(request_id))
        return self._serve_waiting()

    def withdraw(self, request_id: str, now: float) -> list[Decision]:
        del self._waiting[request_id]
        return []

    def expire(self, now: float) -> list[Decision]:
        late = [name for name, request in self._waiting.items() if request.deadline_at <= now]
        for request_id in late:
            del self._waiting[request_id]
        return [
            Refuse(request_id, Fault.DEADLINE_EXCEEDED, "the request waited too long for a worker")
            for request_id in late
        ]

    def snapshot(self) -> PlacementSnapshot:
        return PlacementSnapshot(len(self._waiting), len(self._holdings), self._books.counts())

    def _serve_waiting(self, *, everyone: bool = False) -> list[Decision]:
        """Decide about those who can go now: all are looked at, or as many as there is room for."""
        decisions: list[Decision] = []
        for request in list(self._waiting.values()):
            if not everyone and not self._has_room():
                break
            decision = self._decide(request)
            if decision is not None:
                del self._waiting[request.request_id]
                decisions.append(decision)
        return decisions

    def _decide(self, request: PlacementRequest) -> Decision | None:
        """Decide about *request*; None if it must wait for a prefill worker."""
        if not (self._settings.disaggregate and request.separable):
            return self._on_one_worker(request, request.cause)
        prefills = self._candidates.prefill(request.model, request.avoid)
        if not prefills:
            return self._on_one_worker(request, request.cause or Reason.NO_PREFILL_WORKER)
        with_room = [account for account in prefills if self._is_free(account)]
        if not with_room:
            return None
        prefill = least_unprefilled(with_room)
        decode = least_decoding(self._candidates.partners(prefill.worker, request.avoid))
        return self._dispatch(request, decode, prefill, Mode.DISAGGREGATED, None)

    def _turn_away(self, request: PlacementRequest) -> Decision:
        """Decide about a request that must wait and cannot. One that was let in before is not
        refused for it: it goes on with what is left."""
        if request.cause is not None:
            return self._on_one_worker(request, request.cause)
        message = f"{len(self._waiting)} requests are waiting already"
        return Refuse(request.request_id, Fault.QUEUE_FULL, message, RETRY_AFTER_SECONDS)

    def _on_one_worker(self, request: PlacementRequest, reason: Reason | None) -> Decision:
        wants_prefill = reason is not None and reason not in _NOT_FOR_WANT_OF_PREFILL
        if wants_prefill and self._settings.on_no_prefill == "fail":
            return _refuse_for_want_of_prefill(request)
        accounts = self._candidates.decode(request.model, request.avoid)
        if not accounts:
            message = f"no decode worker is ready for {request.model}"
            return Refuse(request.request_id, Fault.NO_WORKER, message, RETRY_AFTER_SECONDS)
        mode = Mode.AGGREGATED if reason is None else Mode.FALLBACK
        return self._dispatch(request, least_decoding(accounts), None, mode, reason)

    def _dispatch(
        self,
        request: PlacementRequest,
        decode: Account,
        prefill: Account | None,
        mode: Mode,
        reason: Reason | None,
    ) -> Dispatch:
        self._holdings[request.request_id] = self._books.take(decode, prefill)
        source = prefill.worker if prefill else None
        return Dispatch(request.request_id, source, decode.worker, mode, reason)

    def _is_free(self, account: Account) -> bool:
        return account.unprefilled < self._settings.max_unprefilled

    def _has_room(self) -> bool:
        return any(map(self._is_free, self._candidates.prefills()))


def _refuse_for_want_of_prefill(request: PlacementRequest) -> Refuse:
    busy = request.cause is Reason.PREFILL_REFUSED
    fault = Fault.PREFILL_BUSY if busy else Fault.NO_WORKER
    message = f"no prefill worker takes a request for {request.model} now"
    return Refuse(request.request_id, fault, message, RETRY_AFTER_SECONDS)
