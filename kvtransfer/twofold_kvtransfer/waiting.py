"""Waiting for transfers, which have no events."""

import asyncio
import logging

from twofold_kvtransfer.links import Link
from twofold_kvtransfer.transports import Transfer, TransferState

POLL_SECONDS = 0.0005
"""A short prompt's blocks move in about this time."""

POLL_SHARE = 0.02
"""Of the time that a transfer has moved already: a hundred long ones shall not take a core."""

LETTING_GO_SECONDS = 10.0
"""After a transfer that takes too long was cancelled; then its pair is closed as well."""

_log = logging.getLogger(__name__)


async def ended(transfer: Transfer) -> None:
    """Return when *transfer* has."""
    while transfer.poll() is TransferState.MOVING:  # noqa: ASYNC110  transports have no events
        await asyncio.sleep(max(POLL_SECONDS, transfer.seconds * POLL_SHARE))


async def stop(
    transfer: Transfer, link: Link, letting_go_seconds: float = LETTING_GO_SECONDS
) -> None:
    """Cancel *transfer*, and return when local memory is written no more, however long that
    takes; after *letting_go_seconds* its link is closed."""
    if transfer.poll() is not TransferState.MOVING:
        return
    transfer.cancel()
    try:
        async with asyncio.timeout(letting_go_seconds):
            await ended(transfer)
    except TimeoutError:
        _log.error("a cancelled transfer is still moving; its link is closed")
        link.close("a cancelled transfer does not end")
        await ended(transfer)
