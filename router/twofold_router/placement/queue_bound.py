"""How many may wait, and who has to go when there is one too many: of the longest line (longest
queue drop; S. Wei, E. Coyle and M. Hsiao, GLOBECOM 1991), so that no tenant fills it for all."""

from collections import defaultdict

from twofold_router.placement.interface import PlacementRequest


class QueueBound:
    """Those who wait, by priority and tenant.

    Invariant: ``len`` is the number of those who entered and did not leave; no priority is kept
    that has nobody.
    """

    def __init__(self, max_queued: int) -> None:
        self._max_queued = max_queued
        self._count = 0
        self._queued: dict[int, _Tenants] = defaultdict(_Tenants)

    def __len__(self) -> int:
        return self._count

    def enter(self, request: PlacementRequest) -> None:
        self._queued[request.priority].enter(request)
        self._count += 1

    def leave(self, request: PlacementRequest) -> None:
        """Take *request* out. Nothing happens if it is not in."""
        tenants = self._queued.get(request.priority)
        if tenants is None or not tenants.leave(request):
            return
        self._count -= 1
        if not tenants:
            del self._queued[request.priority]

    def victim(self) -> str | None:
        """Name the one who must go, None while there are not too many: of the least important the
        last to come of the tenant that has most; of equal tenants, the one that came to it last."""
        if self._count <= self._max_queued:
            return None
        return self._queued[min(self._queued)].last_of_biggest()


class _Tenants:
    """The requests of one priority. All takes the same time, whatever the number of tenants.

    Invariant: ``_by_size[n]`` names the tenants with n requests, for n up to the biggest, which is
    the last; no tenant is kept that has none.
    """

    def __init__(self) -> None:
        self._queued: dict[str, dict[str, None]] = {}
        self._by_size: list[dict[str, None]] = [{}]

    def __len__(self) -> int:
        return len(self._queued)

    def enter(self, request: PlacementRequest) -> None:
        tenant = request.tenant
        queued = self._queued.setdefault(tenant, {})
        self._by_size[len(queued)].pop(tenant, None)
        queued[request.request_id] = None
        if len(queued) == len(self._by_size):
            self._by_size.append({})
        self._by_size[len(queued)][tenant] = None

    def leave(self, request: PlacementRequest) -> bool:
        """Take *request* out; return whether it was in."""
        tenant = request.tenant
        queued = self._queued.get(tenant, {})
        if request.request_id not in queued:
            return False
        del self._by_size[len(queued)][tenant]
        del queued[request.request_id]
        if queued:
            self._by_size[len(queued)][tenant] = None
        else:
            del self._queued[tenant]
        while len(self._by_size) > 1 and not self._by_size[-1]:
            self._by_size.pop()
        return True

    def last_of_biggest(self) -> str:
        biggest = next(reversed(self._by_size[-1]))
        return next(reversed(self._queued[biggest]))
