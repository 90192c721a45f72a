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
        for worker in {worker.worker_id: worker for worker in workers}.values():
            account = self.accounts.get(worker.worker_id)
            if account is not None and _has_only_new_load(account.worker, worker):
                account.worker = worker
                self._hear_speed(account)
            else:
                changed.append(worker)
        if not changed:
            return Change()
        known = (self.accounts.get(worker.worker_id) for worker in changed)
        change = self._retire([account for account in known if account is not None])
        able = []
        for worker in changed:
            account = self._account_of(worker, now)
            self._hear_speed(account)
            account.is_ready = worker.state is WorkerState.READY
            if _is_pooled(worker):
                able.append(account)
        change.joined = self.pools.add(able)
        return change

    def forget(self, worker_ids: Iterable[WorkerId]) -> Change:
        """Close the accounts of *worker_ids*, as far as they are known."""
        leaving = [self.accounts.pop(name) for name in worker_ids if name in self.accounts]
        change = self._retire(leaving)
        models = {account.worker.model for account in self.accounts.values()} if leaving else set()
        for account in leaving:
            if account.worker.model not in models:
                self.models.pop(account.worker.model, None)
        return change

    def _retire(self, accounts: list[Account]) -> Change:
        """Give *accounts* nothing new; who waits there needs another place."""
        pooled = [account for account in accounts if _is_pooled(account.worker)]
        for account in pooled:
            account.is_ready = False
        retired = pooled + self.pools.remove(pooled)
        for account in retired:
            account.dismiss_guests()
        return Change([waiting for account in retired for waiting in _empty(account)])

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


def _empty(account: Account) -> list[Waiting]:
    everyone = list(account.queue.everyone())
    for waiting in everyone:
        account.dequeue(waiting)
    return everyone


def _is_pooled(worker: Worker) -> bool:
    return worker.state is not WorkerState.DRAINING


def _has_only_new_load(old: Worker, new: Worker) -> bool:
    return (
        old.incarnation == new.incarnation
        and old.state is new.state
        and old.role is new.role
        and old.names == new.names
        and old.kv_side_channel == new.kv_side_channel
        and party_of(old, old.model) == party_of(new, new.model)
    )
