"""The leases that requests here need, renewed until nobody here needs them any more."""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from twofold_kvtransfer.links import LinkError, Links
from twofold_kvtransfer.sources import Source

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kept:
    source: Source
    users: int = 0
    """Requests here that need it: several, if a client asked for several answers at once."""
    held_until: float = 0.0
    """Until when it certainly is held: counted from before the claim was sent."""


class Keeper:
    """Owns the leases of one rank, from :meth:`want` to as many times :meth:`leave`.

    They outlive the links on which they are claimed, so one that was lost costs no lease unless it
    stays lost for a lease's time.
    """

    def __init__(
        self,
        links: Links,
        tasks: asyncio.TaskGroup,
        *,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Each is claimed every *interval* seconds."""
        self._links = links
        self._tasks = tasks
        self._interval = interval
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._renewing: set[str] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def counts(self) -> dict[str, int]:
        """Return how many leases of each engine are kept, by engine id."""
        return Counter(kept.source.engine_id for kept in self._kept.values())

    def want(self, source: Source) -> None:
        """Keep the lease of *source* for one request more."""
        self._kept.setdefault(_key(source), _Kept(source)).users += 1

    def leave(self, source: Source) -> bool:
        """Keep it for one request less; return whether nobody needs it any more."""
        kept = self._kept.get(_key(source))
        if kept is None:
            return True
        kept.users -= 1
        if kept.users:
            return False
        del self._kept[_key(source)]
        return True

    def now(self) -> float:
        """Return a moment for :meth:`held`."""
        return self._clock()

    def held(self, source: Source, until: float) -> bool:
        """Tell whether the blocks of *source* were certainly held at *until*, and before."""
        kept = self._kept.get(_key(source))
        return kept is not None and until < kept.held_until

    async def claim(self, sources: Collection[Source]) -> None:
        """Renew the leases of *sources*, all of one engine; :meth:`held` tells what came of it.

        Raises:
            LinkError: it cannot be reached.
        """
        link = await self._links.to(next(iter(sources)))
        asked = self._clock()
        answers = await link.claim([source.request_id for source in sources])
        for source, seconds in zip(sources, answers, strict=True):
            kept = self._kept.get(_key(source))
            if kept is not None:
                kept.held_until = 0.0 if seconds is None else asked + seconds

    async def give_back(self, source: Source) -> None:
        """Let the peer know that nobody here needs the blocks; else their lease expires."""
        try:
            link = await self._links.to(source)
            await link.give_back(source.request_id)
        except LinkError as error:
            _log.warning("lease of %s left to expire: %s", source.request_id, error)

    async def run(self) -> None:
        """Renew, without end. At most one renewal of an engine is under way."""
        while True:
            await asyncio.sleep(self._interval)
            by_engine: defaultdict[str, list[Source]] = defaultdict(list)
            for kept in self._kept.values():
                by_engine[kept.source.engine_id].append(kept.source)
            for engine_id in by_engine.keys() - self._renewing:
                self._renewing.add(engine_id)
                self._tasks.create_task(self._renew(engine_id, by_engine[engine_id]))

    async def _renew(self, engine_id: str, sources: Collection[Source]) -> None:
        try:
            await self.claim(sources)
        except LinkError as error:
            _log.warning("%d leases not renewed: %s", len(sources), error)
        finally:
            self._renewing.discard(engine_id)


def _key(source: Source) -> tuple[str, str]:
    return source.engine_id, source.request_id
