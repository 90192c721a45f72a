"""The workers of a service and its block directory, as Redis has them when they are asked for."""

from collections.abc import Callable, Mapping

from twofold_cluster.identity import WorkerId
from twofold_cluster.membership import connect, read_workers
from twofold_cluster.membership.entries import REDIS_IS_AWAY
from twofold_cluster.worker import Worker
from twofold_engine.prefixes.errors import CannotFindError, NotAnsweredError
from twofold_engine.prefixes.finding import Found, directory_at, find_in_revision


class RedisLookup:
    """Opens a connection for each question: there are few of them."""

    def __init__(self, redis_url: str | None, own: Callable[[], Worker]) -> None:
        self._redis_url = redis_url
        self._own = own

    async def workers(self) -> Mapping[WorkerId, Worker]:
        """Return the workers that are announced now.

        Raises:
            CannotFindError: this worker has no Redis.
            NotAnsweredError: Redis is away.
        """
        try:
            async with connect(self._url()) as redis:
                announced = await read_workers(redis, self._own().service)
        except REDIS_IS_AWAY as error:
            raise NotAnsweredError(f"Redis does not answer: {error!r}") from error
        return {worker.worker_id: worker for worker in announced}

    async def find(self, workers: list[Worker], body: bytes) -> Found:
        """Find who of *workers*, all of one revision, holds the prompt of *body*.

        Raises:
            CannotFindError, InvalidPromptError: nobody names the prompt's blocks.
            NotAnsweredError: Redis is away.
        """
        async with directory_at(self._url(), self._own().service) as directory:
            return await find_in_revision(directory, workers, body)

    async def find_in_own_revision(self, body: bytes) -> Found:
        """Find who of this worker's revision holds the prompt of *body*.

        Raises:
            CannotFindError: no worker of it tells of its blocks, or can name the prompt's.
            InvalidPromptError: this worker refuses the prompt.
            NotAnsweredError: Redis is away.
        """
        own = self._own()
        others = [
            worker
            for worker in (await self.workers()).values()
            if worker.revision == own.revision and worker.worker_id != own.worker_id
        ]
        if not any(worker.kv_events for worker in (own, *others)):
            raise CannotFindError(f"no worker of revision {own.revision} tells of its blocks")
        return await self.find([own, *others], body)

    def _url(self) -> str:
        if self._redis_url is None:
            raise CannotFindError("this worker has no Redis, and knows of no other")
        return self._redis_url
