"""The side of an engine that borrows: it asks the lender, keeps the lease alive, and gives back."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass

from twofold_router.gateway.background import Background
from twofold_router.http import Client, HttpError
from twofold_sim.live.errors import LoadFailedError
from twofold_sim.live.lending import HEARTBEAT, LENT, OK, READ, Note, encode_note
from twofold_sim.live.loans import Loan

ASK_SECONDS = 5.0
"""For a lender to answer: then it is taken for dead."""

HEARTBEATS_PER_LEASE = 6
"""vLLM's, nixl/base_scheduler.py."""

MAX_ANSWER_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class BorrowingCounts:
    """What has happened, ever."""

    failed_transfers: int = 0
    failed_notifications: int = 0
    transfers: int = 0


class Borrowing:
    """Every loan in ``_held`` is kept alive, and given back exactly once."""

    def __init__(self, client: Client, background: Background, lease_seconds: float) -> None:
        self._client = client
        self._background = background
        self._held: set[Loan] = set()
        self.counts = BorrowingCounts()
        background.watch(self._beat(lease_seconds / HEARTBEATS_PER_LEASE))

    async def borrow(self, loan: Loan) -> None:
        """Have the lender confirm *loan*, and keep it alive until ``give_back``. Who is cancelled
        meanwhile has given it back.

        Raises:
            LoadFailedError: the lender is not there, is another one by now, or has no such blocks.
        """
        try:
            status = await self._tell(loan.origin, LENT, loan.engine_id, [loan])
        except asyncio.CancelledError:
            self._background.start(self._give_back(loan))
            raise
        if status != OK:
            self.counts.failed_transfers += 1
            extra = {"lender": loan.engine_id, "status": status}
            _log.warning("blocks cannot be fetched", extra=extra)
            raise LoadFailedError
        self._held.add(loan)

    def give_back(self, loan: Loan) -> None:
        """Tell the lender that its blocks were read, or are not wanted any more."""
        if loan in self._held:
            self._held.discard(loan)
            self._background.start(self._give_back(loan))

    async def _give_back(self, loan: Loan) -> None:
        if await self._tell(loan.origin, READ, loan.engine_id, [loan]) != OK:
            self.counts.failed_notifications += 1

    async def _beat(self, interval_seconds: float) -> None:
        while True:
            await asyncio.sleep(interval_seconds)
            by_lender: defaultdict[tuple[str, str], list[Loan]] = defaultdict(list)
            for loan in self._held:
                by_lender[loan.origin, loan.engine_id].append(loan)
            for (origin, engine_id), loans in by_lender.items():
                self._background.start(self._tell(origin, HEARTBEAT, engine_id, loans))

    async def _tell(self, origin: str, path: str, engine_id: str, loans: list[Loan]) -> int | None:
        """Return the lender's status, None if it does not answer."""
        numbers = list(loans[0].block_numbers) if path == LENT else []
        body = encode_note(Note(engine_id, [loan.request_id for loan in loans], numbers))
        with contextlib.suppress(HttpError, TimeoutError, ValueError):
            async with asyncio.timeout(ASK_SECONDS):
                response = await self._client.request(origin, "POST", path, (), body)
                with closing(response):
                    await response.read(MAX_ANSWER_BYTES)
                    return response.status
        return None
