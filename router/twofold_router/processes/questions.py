"""Answers that are awaited from the other process."""

import asyncio
import itertools
from typing import Generic, TypeVar

from twofold_cluster.errors import Fault, RequestError

T = TypeVar("T")


class Questions(Generic[T]):
    """Invariant: has exactly those that are awaited; after ``lose`` none is."""

    def __init__(self) -> None:
        self._futures: dict[int, asyncio.Future[T]] = {}
        self._serial = itertools.count(1)
        self._is_lost = False

    def open(self) -> "tuple[int, asyncio.Future[T]]":
        """Return the number of a new question, and what is to be awaited.

        Raises:
            RequestError: nobody will answer any more; awaiting raises this too.
        """
        if self._is_lost:
            raise _gone()
        number = next(self._serial)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._futures[number] = future
        future.add_done_callback(lambda _: self._futures.pop(number, None))
        return number, future

    def answer(self, number: int, answer: T | Exception) -> None:
        """Answer question *number*. Who asked may have left."""
        future = self._futures.get(number)
        if future is None or future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def lose(self) -> None:
        """Let nobody wait: the other process has gone."""
        self._is_lost = True
        for number in list(self._futures):
            self.answer(number, _gone())


def _gone() -> RequestError:
    return RequestError(Fault.DRAINING, "this router is ending", retry_after_seconds=1)
