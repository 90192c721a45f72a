"""Places for what waits for its turn, so that calls are left for what does not."""

from collections.abc import Iterator
from contextlib import contextmanager

from twofold_engine.prefixes.errors import NotAnsweredError


class Places:
    """At most ``count`` are taken at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take one until the end of the block.

        Raises:
            NotAnsweredError: all are taken.
        """
        if self._taken >= self._count:
            raise NotAnsweredError(f"{self._count} pulls and pins wait here already")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
