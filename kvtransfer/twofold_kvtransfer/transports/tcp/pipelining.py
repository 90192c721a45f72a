"""Jobs in threads, some ahead of who takes their results."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Pipeline(Generic[T]):
    """Results are taken in the order of their jobs; at its end no job runs any more.

    At most ``room`` jobs are there: who takes a result first when it is full may give each the
    room of the one taken.
    """

    def __init__(self, threads: Executor, room: int) -> None:
        self._threads = threads
        self._room = room
        self._jobs: deque[Future[T]] = deque()

    @property
    def is_full(self) -> bool:
        return len(self._jobs) >= self._room

    @property
    def is_ready(self) -> bool:
        """Whether ``take`` would not wait."""
        return self._jobs[0].done()

    def __len__(self) -> int:
        return len(self._jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # One that is cancelled never begins; it would be told only when a thread comes to it.
        wait([job for job in self._jobs if not job.cancel()])

    def start(self, work: Callable[[], T]) -> None:
        assert not self.is_full
        self._jobs.append(self._threads.submit(work))

    def take(self) -> T:
        """Wait for the first result, and return it; or raise what its job raised."""
        return self._jobs.popleft().result()
