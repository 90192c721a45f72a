"""The counts of what each worker has of ours."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement.interface import WorkerCounts

Life = tuple[WorkerId, Incarnation]


@dataclass(slots=True)
class Account:
    """One incarnation's entry and counts. ``last_turn`` orders workers by their last dispatch."""

    worker: Worker
    unprefilled: int = 0
    decoding: int = 0
    last_turn: int = 0


@dataclass(slots=True)
class Holding:
    """What one dispatched request holds: a decode place, and a prefill place until leg 1 is over.

    ``source`` is the prefill worker whose blocks the decode worker must be able to use. Invariant:
    while its life is in the books, each place is counted once in its account.
    """

    model: str
    decode: Life
    prefill: Life | None
    source: Worker | None


@dataclass(slots=True)
class Books:
    """Accounts by life. At most one incarnation of a worker has one.

    Invariant: an account's counts are those of the holdings that name its life, hence never
    negative. What is given back to a life that has no account any more changes nothing.
    """

    _accounts: dict[Life, Account] = field(default_factory=dict)
    _turn: int = 0

    def replace(self, workers: Iterable[Worker]) -> None:
        """Keep the accounts of the lives in *workers*, open the new, drop the others."""
        old = self._accounts
        self._accounts = {}
        for worker in workers:
            life = life_of(worker)
            account = old.get(life) or Account(worker)
            account.worker = worker
            self._accounts[life] = account

    def ready(self) -> list[Account]:
        """Return the accounts of the workers that take new requests."""
        return [
            account
            for account in self._accounts.values()
            if account.worker.state is WorkerState.READY
        ]

    def take(self, decode: Account, prefill: Account | None) -> Holding:
        """Count a request at its workers."""
        self._turn += 1
        decode.decoding += 1
        decode.last_turn = self._turn
        model = decode.worker.model
        if prefill is None:
            return Holding(model, life_of(decode.worker), None, None)
        prefill.unprefilled += 1
        prefill.last_turn = self._turn
        return Holding(model, life_of(decode.worker), life_of(prefill.worker), prefill.worker)

    def give_back_prefill(self, holding: Holding) -> None:
        """Take back the prefill place, if the request still has one."""
        if holding.prefill is None:
            return
        account = self._accounts.get(holding.prefill)
        holding.prefill = None
        if account is not None:
            assert account.unprefilled > 0, account
            account.unprefilled -= 1

    def give_back(self, holding: Holding) -> None:
        """Take back all that is left. *holding* is of no use afterwards."""
        self.give_back_prefill(holding)
        self._leave_decode(holding)

    def move_decode(self, holding: Holding, to: Account) -> None:
        """Count the request at another decode worker from now on."""
        self._leave_decode(holding)
        self._turn += 1
        to.decoding += 1
        to.last_turn = self._turn
        holding.decode = life_of(to.worker)

    def counts(self) -> tuple[WorkerCounts, ...]:
        return tuple(
            WorkerCounts(account.worker.worker_id, account.unprefilled, account.decoding)
            for account in self._accounts.values()
        )

    def _leave_decode(self, holding: Holding) -> None:
        account = self._accounts.get(holding.decode)
        if account is not None:
            assert account.decoding > 0, account
            account.decoding -= 1


def life_of(worker: Worker) -> Life:
    return (worker.worker_id, worker.incarnation)
