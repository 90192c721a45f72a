"""Who can serve a request, and who of them is the least busy."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.placement.books import Account

Party = tuple[str, str, str]
"""Model, revision and compatibility: workers pair only within one."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The ready workers, by what they can do. Valid until the workers change."""

    prefill_by_model: dict[str, list[Account]]
    decode_by_model: dict[str, list[Account]]
    decode_by_party: dict[Party, list[Account]]

    def prefills(self) -> Iterator[Account]:
        return chain.from_iterable(self.prefill_by_model.values())

    def prefill(self, model: str, avoid: frozenset[WorkerId]) -> list[Account]:
        """Return those who can prefill for *model*, and have somebody else to decode it."""
        return [
            account
            for account in self.prefill_by_model.get(model, ())
            if account.worker.worker_id not in avoid and self.partners(account.worker, avoid)
        ]

    def partners(self, prefill: Worker, avoid: frozenset[WorkerId]) -> list[Account]:
        """Return those who can use the blocks that *prefill* computes."""
        excluded = avoid | {prefill.worker_id}
        return _without(self.decode_by_party.get(party_of(prefill), ()), excluded)

    def decode(self, model: str, avoid: frozenset[WorkerId]) -> list[Account]:
        """Return those who can do both phases for *model*."""
        return _without(self.decode_by_model.get(model, ()), avoid)


def sort_out(accounts: Iterable[Account]) -> Candidates:
    """Index ready *accounts* by what their workers can do."""
    candidates = Candidates(defaultdict(list), defaultdict(list), defaultdict(list))
    for account in accounts:
        worker = account.worker
        if worker.role.prefills:
            candidates.prefill_by_model[worker.model].append(account)
        if worker.role.decodes:
            candidates.decode_by_model[worker.model].append(account)
            candidates.decode_by_party[party_of(worker)].append(account)
    return candidates


def party_of(worker: Worker) -> Party:
    return (worker.model, worker.revision, worker.engine.compatibility)


def least_unprefilled(accounts: Iterable[Account]) -> Account:
    """Return the one with the fewest of ours to prefill, then by the load that it reports.

    Our own count comes first because it is never old; the longest idle one wins a tie.
    """
    return min(accounts, key=_prefill_business)


def least_decoding(accounts: Iterable[Account]) -> Account:
    """Return the one that decodes the fewest of ours, then by the load that it reports."""
    return min(accounts, key=_decode_business)


def _prefill_business(account: Account) -> tuple[int, int, int]:
    load = account.worker.load
    return (account.unprefilled, load.unprefilled_count + load.waiting_count, account.last_turn)


def _decode_business(account: Account) -> tuple[int, int, int]:
    load = account.worker.load
    return (account.decoding, load.running_count + load.waiting_count, account.last_turn)


def _without(accounts: Iterable[Account], avoid: frozenset[WorkerId]) -> list[Account]:
    return [account for account in accounts if account.worker.worker_id not in avoid]
