"""The accounts of all incarnations that are known, and what is learned of their models."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement.accounts import Account, circle_of, party_of
from twofold_router.placement.models import ModelStatistics
from twofold_router.placement.orders import Order
from twofold_router.placement.pools import Pools
from twofold_router.placement.waiting import Waiting


@dataclass(slots=True)
class Change:
    """What a change of the workers leaves to be done."""

    homeless: list[Waiting] = field(default_factory=list)
    """Those who waited at an account that takes their prompts no longer."""
    joined: list[Account] = field(default_factory=list)
    """Accounts that are in one from now on."""


class Workforce:
    """Keeps an account for each worker.

    Invariant: at most one incarnation of a worker has an account; an account is in the pools
    unless its worker drains; ``is_ready`` is set while that takes new requests; those that are in
    no pool for a request's prompt are nobody's candidates.
    """

    def __init__(self, make_queue: Callable[[], Order], *, disaggregate: bool) -> None:
        self.pools = Pools(disaggregate=disaggregate)
        self.accounts: dict[WorkerId, Account] = {}
        self.models: dict[str, ModelStatistics] = {}
        self._make_queue = make_queue

    def update(self, workers: Iterable[Worker], now: float) -> Change:
        """Take *workers* as they are now; of one that is told of twice, the later counts."""
        changed: list[Worker] = []
        leaving: list[Account] = []
        remade: set[Account] = set()
        for worker in {worker.worker_id: worker for worker in workers}.values():
            account = self.accounts.get(worker.worker_id)
            if account is not None and _has_only_new_load(account.worker, worker):
                account.worker = worker
                self._hear_speed(account)
                continue
            changed.append(worker)
            if account is not None:
                leaving.append(account)
                if not _does_the_same(account.worker, worker):
                    remade.add(account)
        if not changed:
            return Change()
        left = self._retire(leaving)
        able = []
        for worker in changed:
            account = self._account_of(worker, now)
            self._hear_speed(account)
            account.is_ready = worker.state is WorkerState.READY
            if _is_pooled(worker):
                able.append(account)
        joined = self.pools.add(able)
        return Change(self._empty(left, remade), joined)

    def forget(self, worker_ids: Iterable[WorkerId]) -> Change:
        """Close the accounts of *worker_ids*, as far as they are known."""
        leaving = [self.accounts.pop(name) for name in worker_ids if name in self.accounts]
        homeless = self._empty(self._retire(leaving), set(leaving))
        models = {account.worker.model for account in self.accounts.values()} if leaving else set()
        for account in leaving:
            if account.worker.model not in models:
                self.models.pop(account.worker.model, None)
        return Change(homeless)

    def _retire(self, accounts: list[Account]) -> list[Account]:
        """Give *accounts* nothing new. Returns those that have left a pool, partners too."""
        pooled = [account for account in accounts if _is_pooled(account.worker)]
        for account in pooled:
            account.is_ready = False
        return pooled + self.pools.remove(pooled)

    def _empty(self, accounts: list[Account], remade: set[Account]) -> list[Waiting]:
        """Send away those who wait at *accounts*, or might come there, and cannot be served there
        now; from those of *remade* everybody. Returns those who waited."""
        homeless: list[Waiting] = []
        for account in accounts:
            for waiting in [*account.queue.everyone(), *account.guests.values()]:
                if account not in remade and self.pools.have(account, waiting.request.model):
                    continue
                if waiting.at is account:
                    account.dequeue(waiting)
                    homeless.append(waiting)
                else:
                    account.dismiss(waiting)
        return homeless

    def _account_of(self, worker: Worker, now: float) -> Account:
        """Return the account of this life of *worker*, with *worker* in it."""
        account = self.accounts.get(worker.worker_id)
        if account is None or account.worker.incarnation != worker.incarnation:
            statistics = self.models.setdefault(
                worker.model, ModelStatistics(worker.max_model_tokens)
            )
            account = Account(worker, self._make_queue(), statistics, now)
            self.accounts[worker.worker_id] = account
        account.worker = worker
        account.circle = circle_of(worker)
        return account

    def _hear_speed(self, account: Account) -> None:
        account.speed.announce(account.worker.load.seconds_per_prefill_token)


def _is_pooled(worker: Worker) -> bool:
    return worker.state is not WorkerState.DRAINING


def _does_the_same(old: Worker, new: Worker) -> bool:
    """Tell whether the same life is ready for the same work, maybe for other names."""
    return (
        old.incarnation == new.incarnation
        and old.state is new.state
        and old.role is new.role
        and party_of(old, old.model) == party_of(new, new.model)
    )


def _has_only_new_load(old: Worker, new: Worker) -> bool:
    return (
        _does_the_same(old, new)
        and old.names == new.names
        and old.kv_side_channel == new.kv_side_channel
    )
