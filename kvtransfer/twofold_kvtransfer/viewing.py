"""What the ranks of an engine tell their peers of its prefix cache, wherever that is."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.shelf import Shelf

STEP_LIMIT_SECONDS = 30.0
"""Steps of an engine take tens of milliseconds, on a CPU seconds."""

Ids = Sequence[int]


class NoViewError(TwofoldError):
    """Nobody can say now what the cache holds; the message is for who asks."""


class View(Protocol):
    """Looks at the prefix cache of one engine, in the event loop of a rank."""

    async def look(self, names: Sequence[bytes]) -> tuple[Ids, Ids]:
        """Return the blocks that have the first of *names*, up to the first name that no block has,
        and their versions. They are computed.

        Raises:
            NoViewError: that takes too long, or the cache's process does not answer.
        """

    async def unchanged(self, names: Sequence[bytes], blocks: Ids, versions: Ids) -> bool:
        """Say whether *blocks* have *names* as when they were seen, and had all along.

        Raises:
            NoViewError: the cache's process does not answer.
        """

    async def close(self) -> None:
        """Look no more."""


class LocalView:
    """Of a shelf in this process."""

    def __init__(self, find: Callable[[], Shelf | None]) -> None:
        """*find* returns None while there is no shelf, and where there never will be one."""
        self._find = find

    async def look(self, names: Sequence[bytes]) -> tuple[Ids, Ids]:
        shelf = self._find()
        if shelf is None:
            return (), ()
        sight = shelf.look(names)
        if sight.blocks:
            try:
                async with asyncio.timeout(STEP_LIMIT_SECONDS):
                    await shelf.steps.until_done(sight.step)
            except TimeoutError as error:
                raise NoViewError("the engine is in a long step") from error
        return sight.blocks, sight.versions

    async def unchanged(self, names: Sequence[bytes], blocks: Ids, versions: Ids) -> bool:
        shelf = self._find()
        return shelf is not None and shelf.unchanged(names, blocks, versions)

    async def close(self) -> None:
        """Nothing was opened."""


NO_CACHE = LocalView(lambda: None)
"""Of an engine that shows its prefix cache to nobody."""
