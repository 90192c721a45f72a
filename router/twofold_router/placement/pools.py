"""Who can do what: the workers that serve a name, and the partners of a prefill worker."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement.accounts import Account, Party, party_of
from twofold_router.placement.models import ModelStatistics
from twofold_router.placement.ring import Ring


class Pool:
    """Accounts that may be chosen for one thing, in a list and on a ring.

    Invariant: the same workers are in ``accounts``, in ``by_id`` and on the ring.
    """

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.by_id: dict[str, Account] = {}
        self._ring = Ring()

    def __len__(self) -> int:
        return len(self.accounts)

    def add(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            self.by_id[account.worker.worker_id] = account
            self._ring.add(account.worker.worker_id)
        self.accounts = list(self.by_id.values())

    def remove(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            del self.by_id[account.worker.worker_id]
            self._ring.remove(account.worker.worker_id)
        self.accounts = list(self.by_id.values())

    def homes(self, digest: bytes, count: int) -> list[Account]:
        """Return the accounts that *count* hashes of *digest* name."""
        by_id = self.by_id
        return [by_id[worker_id] for worker_id in self._ring.successors(digest, count)]


class Pools:
    """The pools that workers are in, by what they are needed for and the name that is asked for.

    Invariant: a ready account that decodes is in the decode pool of each name that it serves; with
    those on standby it is among the partners of its parties. One that prefills is in the prefill
    pool of a name while somebody can decode what it computes for that, itself or a partner. Nobody
    else is in any pool.
    """

    def __init__(self, *, disaggregate: bool) -> None:
        self._disaggregate = disaggregate
        self._prefill: dict[str, Pool] = {}
        self._decode: dict[str, Pool] = {}
        self._partners: dict[Party, Pool] = {}
        self._ready: dict[Party, dict[str, Account]] = defaultdict(dict)

    def prefill(self, name: str) -> Pool | None:
        """Return the workers that compute prompts for *name*."""
        return self._prefill.get(name)

    def decode(self, name: str) -> Pool | None:
        """Return the workers that can do both phases of a request for *name*."""
        return self._decode.get(name)

    def have(self, account: Account, name: str) -> bool:
        """Tell whether *account* may be chosen for a request for *name*."""
        worker_id = account.worker.worker_id
        pools = (self._prefill.get(name), self._decode.get(name))
        return any(pool is not None and pool.by_id.get(worker_id) is account for pool in pools)

    def statistics(self, name: str) -> ModelStatistics | None:
        """Return what is known of the model behind *name*, None if nobody serves it."""
        pool = self._decode.get(name) or self._prefill.get(name)
        return pool.accounts[0].statistics if pool else None

    def partners(self, worker: Worker, name: str) -> Pool | None:
        """Return the workers that can use the blocks that *worker* computes for *name*."""
        return self._partners.get(party_of(worker, name))

    def add(self, accounts: Iterable[Account]) -> list[Account]:
        """Take in *accounts*, ready or on standby. Returns those who can prefill for some name from
        now on."""
        useful: dict[Account, None] = {}
        for party, joining in _by_party(accounts).items():
            ready, decoding = _sort(joining)
            self._ready[party].update((a.worker.worker_id, a) for a in ready)
            _add(self._decode, party[0], [a for a in ready if a.worker.role.decodes])
            _add(self._partners, party, decoding)
            useful |= dict.fromkeys(self._sort_out_prefill(party)[0])
        return list(useful)

    def remove(self, accounts: Iterable[Account]) -> list[Account]:
        """Let *accounts* go, whose workers are as they were added. Returns those of the others who
        can prefill for some name no longer because nobody is left to decode."""
        orphans: dict[Account, None] = {}
        for party, leaving in _by_party(accounts).items():
            ready, decoding = _sort(leaving)
            for account in ready:
                del self._ready[party][account.worker.worker_id]
            _remove(self._decode, party[0], [a for a in ready if a.worker.role.decodes])
            _remove(self._partners, party, decoding)
            prefilling = self._prefill.get(party[0])
            known = prefilling.by_id if prefilling else {}
            _remove(self._prefill, party[0], [a for a in ready if a.worker.worker_id in known])
            orphans |= dict.fromkeys(self._sort_out_prefill(party)[1])
            if not self._ready[party]:
                del self._ready[party]
        return list(orphans)

    def _sort_out_prefill(self, party: Party) -> tuple[list[Account], list[Account]]:
        """Have those of *party* in the prefill pool who can be of use there. Returns who came and
        who left."""
        pool = self._prefill.get(party[0])
        known = pool.by_id if pool else {}
        has_partners = party in self._partners
        joining, leaving = [], []
        for worker_id, account in self._ready[party].items():
            role = account.worker.role
            wanted = role.decodes if not self._disaggregate else role.prefills and has_partners
            if wanted and worker_id not in known:
                joining.append(account)
            elif not wanted and worker_id in known:
                leaving.append(account)
        _add(self._prefill, party[0], joining)
        _remove(self._prefill, party[0], leaving)
        return joining, leaving


def _by_party(accounts: Iterable[Account]) -> dict[Party, list[Account]]:
    parties: dict[Party, list[Account]] = defaultdict(list)
    for account in accounts:
        for name in account.worker.names:
            parties[party_of(account.worker, name)].append(account)
    return parties


def _sort(accounts: list[Account]) -> tuple[list[Account], list[Account]]:
    """Return those of *accounts* that take new requests, and those that can be partners."""
    ready = [a for a in accounts if a.worker.state is WorkerState.READY]
    return ready, [a for a in accounts if a.worker.role.decodes]


def _add(table: dict[Any, Pool], name: str | Party, accounts: list[Account]) -> None:
    if accounts:
        table.setdefault(name, Pool()).add(accounts)


def _remove(table: dict[Any, Pool], name: str | Party, accounts: list[Account]) -> None:
    if accounts:
        table[name].remove(accounts)
        if not len(table[name]):
            del table[name]
