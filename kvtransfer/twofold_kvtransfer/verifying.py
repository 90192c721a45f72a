"""The proof that blocks arrived as they were sent, for transports that give none."""

import asyncio

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.digesting import Digester, portions
from twofold_kvtransfer.links import Link, LinkError
from twofold_kvtransfer.sources import Source


class Proof:
    """What the holder of some blocks says of them; asked for as soon as this is made, so that it
    is made while they move."""

    def __init__(self, link: Link, source: Source, move: Move, tasks: asyncio.TaskGroup) -> None:
        self._move = move
        self._asking = tasks.create_task(_ask(link, source, move))

    async def damaged(self, digester: Digester) -> list[int]:
        """Return the local blocks that are, or may be, other than those they were read from.

        Raises:
            LinkError: the holder does not say what it holds.
        """
        here = await digester.digest(self._move.local)
        there = await self._asking
        if isinstance(there, LinkError):
            raise there
        return [
            block
            for blocks, mine, theirs in zip(portions(self._move.local), here, there, strict=True)
            if mine != theirs
            for block in blocks
        ]

    def drop(self) -> None:
        """Wait for the holder no more."""
        self._asking.cancel()


async def _ask(link: Link, source: Source, move: Move) -> list[int] | LinkError:
    """Return the error too: a task that raises would end all others."""
    try:
        return await link.digest(source.request_id, move.remote)
    except LinkError as error:
        return error
