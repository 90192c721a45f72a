"""The pool managers of all services."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from twofold_operator.cluster_api import ServiceKey
from twofold_operator.planning.observed import SeenManager, Told
from twofold_operator.pool_managers.connection import ConnectionLimits, ManagerConnection
from twofold_operator.pool_managers.errors import ManagerUnreachableError
from twofold_operator.pool_managers.generations import Generations


class PoolManagers(AbstractAsyncContextManager["PoolManagers"]):
    """Follows the managers that each service has; ``changed`` is called with the service at news.

    Each connection is a task of this object, and ends with it or when its service lets it go.
    """

    def __init__(
        self, changed: Callable[[ServiceKey], None], limits: ConnectionLimits | None = None
    ) -> None:
        self._changed = changed
        self._limits = limits or ConnectionLimits()
        self._generations = Generations()
        self._turns = asyncio.Semaphore(self._limits.attempt_count)
        self._tasks = asyncio.TaskGroup()
        self._of_service: dict[
            ServiceKey, dict[str, tuple[ManagerConnection, asyncio.Task[None]]]
        ] = {}

    async def __aenter__(self) -> "PoolManagers":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for key in list(self._of_service):
            self.follow(key, ())
        await self._tasks.__aexit__(kind, error, traceback)

    @property
    def connected_count(self) -> int:
        return sum(
            connection.seen() is not None
            for connections in self._of_service.values()
            for connection, _ in connections.values()
        )

    def follow(self, key: ServiceKey, addresses: Collection[str]) -> None:
        """Follow exactly *addresses* for the service from now on."""
        connections = self._of_service.setdefault(key, {})
        for address in connections.keys() - set(addresses):
            _, task = connections.pop(address)
            task.cancel()
        for address in set(addresses) - connections.keys():
            connection = ManagerConnection(
                address, self._generations, lambda: self._changed(key), self._limits, self._turns
            )
            task = self._tasks.create_task(connection.run(), name=f"pool manager {address}")
            connections[address] = connection, task
        if not connections:
            del self._of_service[key]

    def seen(self, key: ServiceKey) -> Mapping[str, SeenManager]:
        """Return the managers of the service that answer, by address."""
        found = {}
        for address, (connection, _) in self._of_service.get(key, {}).items():
            if (seen := connection.seen()) is not None:
                found[address] = seen
        return found

    def unasked(self, key: ServiceKey) -> frozenset[str]:
        """Return the managers of the service that have had no time to answer yet."""
        held = self._of_service.get(key, {}).items()
        return frozenset(address for address, (one, _) in held if not one.is_asked)

    async def tell(self, key: ServiceKey, address: str, told: Told) -> None:
        """Tell the manager at *address* what to want.

        Raises:
            ManagerUnreachableError: it does not answer.
        """
        found = self._of_service.get(key, {}).get(address)
        if found is None:
            raise ManagerUnreachableError(f"{address} is not followed")
        await found[0].tell(told)
