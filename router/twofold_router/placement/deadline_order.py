"""By deadline, so that as many as possible are on time (DESIGN, ``twofold``: "Order").

J. M. Moore, "An n job, one machine sequencing algorithm for minimizing the number of late jobs",
Management Science 15 (1968), in T. J. Hodgson's form: take the jobs by deadline; whenever one would
be late, put off the longest of those taken so far. Here somebody of the lowest priority is put off
first, then somebody of a tenant that had more than its share, then the longest.
"""

import bisect
import heapq
from collections.abc import Callable, Iterable

from twofold_router.placement.ranking import Ranking
from twofold_router.placement.waiting import Waiting

REPLAN_FRACTION = 8
"""The plan is made anew when one in so many entries is not as it was when it was made: a queue of
10,000 is then sorted once in 1,250 events, one of less than 16 at each."""

_Entry = tuple[float, int, Waiting]


class ByDeadline:
    """A plan of those who can be on time, by deadline, and the others, by arrival.

    Invariant: everybody waits in exactly one of ``_plan`` (sorted by deadline), ``_put_off`` (may
    come back into the plan) and ``_late`` (cannot be on time even if they went now). Of the late
    the highest priority goes first, of that the tenants that had no more than their share when they
    became late, then the oldest.
    """

    def __init__(
        self,
        over_share: Callable[[str], int],
        overtaking_share: float,
        overtaken_seconds: float,
    ) -> None:
        """*over_share* tells by how many doublings a tenant has had more than its share."""
        self._over_share = over_share
        self._overtaking_share = overtaking_share
        self._overtaken_seconds = overtaken_seconds
        self._plan: list[_Entry] = []
        self._plan_seconds = 0.0
        self._put_off: dict[int, Waiting] = {}
        self._late: dict[int, Waiting] = {}
        self._late_ranking: Ranking[int] = Ranking()
        self._late_by_age: Ranking[int] = Ranking()
        self._newly_late: list[Waiting] = []
        self._changes = 0
        self._claim_seconds = 0.0
        self._named: Waiting | None = None
        self._claimant: Waiting | None = None

    @property
    def ahead_seconds(self) -> float:
        return self._plan_seconds if self._plan else 0.0

    def other_seconds(self, waiting: Waiting) -> float:
        is_planned = waiting.serial not in self._late and waiting.serial not in self._put_off
        return self.ahead_seconds - waiting.seconds if is_planned else self.ahead_seconds

    def __len__(self) -> int:
        return len(self._plan) + len(self._put_off) + len(self._late)

    def add(self, waiting: Waiting, now: float) -> None:
        if now + waiting.seconds > waiting.due_at:
            self._be_late(waiting)
            return
        bisect.insort(self._plan, (waiting.due_at, waiting.serial, waiting))
        self._plan_seconds += waiting.seconds
        self._changes += 1

    def remove(self, waiting: Waiting) -> None:
        self._spend(waiting)
        serial = waiting.serial
        if self._late.pop(serial, None) is not None:
            self._late_ranking.discard(serial)
            self._late_by_age.discard(serial)
            return
        if self._put_off.pop(serial, None) is not None:
            return
        index = bisect.bisect_left(self._plan, (waiting.due_at, serial))
        del self._plan[index]
        self._plan_seconds -= waiting.seconds
        self._changes += 1

    def next(self, starts_at: float) -> Waiting | None:
        self._sort_out(starts_at)
        self._claimant = claimant = self._find_claimant(starts_at)
        if claimant is not None and self._claim_seconds >= claimant.seconds:
            self._named = claimant
        elif self._plan:
            self._named = self._plan[0][2]
        else:
            self._named = self._first_put_off(starts_at) or self._first_late()
        return self._named

    def everyone(self) -> Iterable[Waiting]:
        yield from (waiting for _, _, waiting in self._plan)
        yield from self._put_off.values()
        yield from self._late.values()

    def late(self) -> list[Waiting]:
        late, self._newly_late = self._newly_late, []
        return [waiting for waiting in late if waiting.serial in self._late]

    def longest_late(self) -> Waiting | None:
        return next(iter(self._late.values()), None)

    def _sort_out(self, starts_at: float) -> None:
        """Bring the plan up to date as far as its head is concerned."""
        if self._changes * REPLAN_FRACTION > len(self._plan) + len(self._put_off):
            self._replan(starts_at)
        while self._plan and starts_at + self._plan[0][2].seconds > self._plan[0][0]:
            _, _, waiting = self._plan.pop(0)
            self._plan_seconds -= waiting.seconds
            self._be_late(waiting)

    def _replan(self, starts_at: float) -> None:
        """Moore's rule over all who could be on time alone."""
        self._changes = 0
        entries = self._plan
        if self._put_off:
            entries += [(w.due_at, w.serial, w) for w in self._put_off.values()]
            entries.sort()
            self._put_off.clear()
        kept: list[_Entry] = []
        victims: list[tuple[int, int, float, int, Waiting]] = []
        put_off: set[int] = set()
        ends_at = starts_at
        for entry in entries:
            deadline, serial, waiting = entry
            if starts_at + waiting.seconds > deadline:
                self._be_late(waiting)
                continue
            kept.append(entry)
            ends_at += waiting.seconds
            request = waiting.request
            excess = -self._over_share(request.tenant)
            # Of equal ones the last to come.
            heapq.heappush(victims, (request.priority, excess, -waiting.seconds, -serial, waiting))
            while ends_at > deadline:
                *_, victim = heapq.heappop(victims)
                ends_at -= victim.seconds
                put_off.add(victim.serial)
                self._put_off[victim.serial] = victim
        self._plan = [entry for entry in kept if entry[1] not in put_off] if put_off else kept
        self._plan_seconds = ends_at - starts_at

    def _be_late(self, waiting: Waiting) -> None:
        self._late[waiting.serial] = waiting
        over = self._over_share(waiting.request.tenant)
        self._late_ranking.add(waiting.serial, over / (over + 1) - waiting.request.priority)
        self._late_by_age.add(waiting.serial, waiting.serial)
        self._newly_late.append(waiting)

    def _first_put_off(self, starts_at: float) -> Waiting | None:
        """Return the first of those put off; who would rather be refused than late is late by then
        if it cannot be on time."""
        while self._put_off:
            waiting = next(iter(self._put_off.values()))
            is_late = starts_at + waiting.seconds > waiting.due_at
            if not (is_late and waiting.request.refuse_late):
                return waiting
            del self._put_off[waiting.serial]
            self._be_late(waiting)
        return None

    def _first_late(self) -> Waiting | None:
        first = self._late_ranking.first()
        return self._late[first[1]] if first else None

    def _find_claimant(self, now: float) -> Waiting | None:
        """Return the oldest of the late, whatever its priority, if it is overtaken and has waited
        too long."""
        entry = self._late_by_age.first()
        if entry is None:
            return None
        oldest = self._late[entry[1]]
        is_overtaken = bool(self._plan) or oldest is not self._first_late()
        has_waited = now - oldest.request.arrived_at > self._overtaken_seconds
        return oldest if is_overtaken and has_waited else None

    def _spend(self, waiting: Waiting) -> None:
        """Save up for who has a claim while others go, or spend what was saved."""
        if self._named is not waiting:
            return
        if self._claimant is waiting:
            self._claim_seconds = max(self._claim_seconds - waiting.seconds, 0.0)
        elif self._claimant is not None:
            self._claim_seconds += self._overtaking_share * waiting.seconds
        self._named = None
