"""Answers that are awaited from the other process."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

from twofold_cluster.errors import Fault, RequestError

T = TypeVar("T")


ANSWER_SECONDS = 5.0
"""For what takes milliseconds."""


class Questions(Generic[T]):
    """Invariant: has exactly those that are awaited; after ``lose`` none is."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._answer_seconds = answer_seconds
        self._futures: dict[int, asyncio.Future[T]] = {}
        self._serial = itertools.count(1)
        self._is_lost = False

    async def ask(self, send: Callable[[int], None]) -> T:
        """Have *send* send a question of the number that it is given, and wait for the answer.

        Raises:
            RequestError: nobody answers any more, or not in time; or that is the answer.
        """
        if self._is_lost:
            raise _gone()
        number = next(self._serial)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._futures[number] = future
        send(number)
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await future
        except TimeoutError as error:
            message = "the placement process does not answer"
            raise RequestError(Fault.OVERLOADED, message, retry_after_seconds=1) from error
        finally:
            del self._futures[number]

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
