"""Put an operator together and run it until it is told to end."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from twofold_operator.cluster_api import (
    Access,
    ClientLimits,
    ClusterApi,
    ClusterApiError,
    Kind,
    ServiceKey,
    Store,
    connect,
)
from twofold_operator.operating.acting import Actor
from twofold_operator.operating.discovering import ALWAYS, find_optional, list_everything
from twofold_operator.operating.leading import Leadership, LeaseSettings, LostLeaseError
from twofold_operator.operating.metrics import OperatorMetrics
from twofold_operator.operating.reconciling import Backoff, Reconciler, run_workers
from twofold_operator.operating.recording import EventRecorder
from twofold_operator.operating.serving import Health, serving
from twofold_operator.operating.waiting import WaitingKeys
from twofold_operator.operating.watching import WatchingEndedError, watching
from twofold_operator.planning.observed import Manifest
from twofold_operator.pool_managers import ConnectionLimits, PoolManagers
from twofold_operator.settings import OperatorSettings

_log = logging.getLogger(__name__)

FAILED = 1
RELIST_SECONDS = 2.0
"""From the first listing of a watch; those of other kinds come with it."""
START_RETRY_SECONDS = 5.0


async def run_operator(settings: OperatorSettings, access: Access) -> int:
    """Wait for the Lease, then operate until SIGTERM or SIGINT. Returns the exit code."""
    stopping = _stop_signal()
    metrics = OperatorMetrics()
    limits = ClientLimits(request_seconds=settings.request_seconds)
    async with connect(access, limits, metrics.count_request) as api:
        operator = Operator(settings, api, metrics)
        async with serving(
            settings.host, settings.port, operator.health(), metrics.registry
        ) as port:
            _log.info("started", extra={"port": port, "namespaces": list(settings.namespaces)})
            operating = asyncio.create_task(operator.run())
            stop = asyncio.create_task(stopping.wait())
            await asyncio.wait([operating, stop], return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            operating.cancel()
            try:
                await operating
            except asyncio.CancelledError:
                _log.info("ended")
                return 0
            except (LostLeaseError, WatchingEndedError, ClusterApiError) as error:
                _log.error("cannot go on", extra={"said": str(error)})
                return FAILED
    return FAILED


class Operator:
    """All parts of one operator; ``run`` ends only by an error or by cancellation."""

    def __init__(
        self, settings: OperatorSettings, api: ClusterApi, metrics: OperatorMetrics
    ) -> None:
        self._settings = settings
        self._api = api
        self._metrics = metrics
        self._waiting: WaitingKeys[ServiceKey] = WaitingKeys()
        self._store = Store(self._waiting.add)
        self._optional: tuple[Kind, ...] = ()
        self._refused: frozenset[str] = frozenset()
        """Namespaces that may not be listed: nothing is known of them, and all others go on."""
        self._has_relisted = asyncio.Event()
        self._is_listed = False
        self._is_started = False
        self._leads = False
        self._managers: PoolManagers | None = None

    def health(self) -> Health:
        metrics, waiting = self._metrics, self._waiting
        metrics.follow("queue_depth", "Services that wait to be reconciled", lambda: waiting.depth)
        metrics.follow(
            "lag_seconds", "How long the oldest of them has waited", lambda: waiting.lag_seconds
        )
        metrics.follow("services", "LLMServices that are held", lambda: len(self._store.services()))
        metrics.follow(
            "refused_namespaces",
            "Namespaces whose services should be operated, and which may not be listed",
            lambda: len(self._refused),
        )
        metrics.follow(
            "connected_pool_managers",
            "Pool managers that answer",
            lambda: 0 if self._managers is None else self._managers.connected_count,
        )
        return Health(self._unhealthy, self._unready)

    async def run(self) -> None:
        """Operate.

        Raises:
            LostLeaseError, WatchingEndedError: start again.
        """
        settings = self._settings
        lease = LeaseSettings(
            settings.namespace, settings.lease_name, settings.identity, settings.lease_seconds
        )
        leadership = Leadership(self._api, lease, time.monotonic)
        self._is_started = True
        await leadership.acquire()
        self._leads = True
        self._metrics.leader.set(1)
        try:
            await self._lead(leadership)
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            self._leads = False
            self._metrics.leader.set(0)
            await leadership.release()

    async def _lead(self, leadership: Leadership) -> None:
        settings = self._settings
        limits = ConnectionLimits(unreachable_seconds=settings.unreachable_seconds)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leadership.keep())
            await self._start()
            async with PoolManagers(self._waiting.add, limits) as managers, self._closing():
                self._managers = managers
                reconciler = self._reconciler(managers)
                async with asyncio.TaskGroup() as working:
                    working.create_task(self._watch())
                    working.create_task(self._resync())
                    working.create_task(self._list_after_watches())
                    working.create_task(run_workers(reconciler, settings.concurrency))

    def _reconciler(self, managers: PoolManagers) -> Reconciler:
        settings = self._settings
        recorder = EventRecorder(self._api, settings.identity, time.monotonic)
        return Reconciler(
            store=self._store,
            managers=managers,
            actor=Actor(self._api, self._store, managers, recorder),
            waiting=self._waiting,
            metrics=self._metrics,
            settings=settings.plan,
            backoff=Backoff(settings.min_backoff_seconds, settings.max_backoff_seconds),
            apis=lambda: frozenset(kind.kind for kind in self._optional),
        )

    async def _start(self) -> None:
        """See everything once before anything is planned."""
        while True:
            try:
                self._optional = await find_optional(self._api)
                await self._list()
            except ClusterApiError as error:
                _log.warning("cannot list what there is", extra={"said": str(error)})
                await asyncio.sleep(START_RETRY_SECONDS)
            else:
                break
        self._is_listed = True

    async def _list(self, metrics: OperatorMetrics | None = None) -> None:
        """Hold what there is, and leave out the namespaces that may not be listed.

        Raises:
            ClusterApiError: the server cannot be asked, or none may be listed.
        """
        namespaces = self._settings.namespaces
        refused = await list_everything(self._api, self._store, self._kinds, namespaces, metrics)
        if namespaces and len(refused) == len(set(namespaces)):
            raise next(iter(refused.values()))
        for namespace in refused.keys() - self._refused:
            extra = {"namespace": namespace, "said": str(refused[namespace])}
            _log.warning("leaves out a namespace that it may not list", extra=extra)
        for namespace in self._refused - refused.keys():
            _log.info("operates a namespace again", extra={"namespace": namespace})
        self._refused = frozenset(refused)
        self._store.leave_out(self._refused)

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        return (*ALWAYS, *self._optional)

    async def _watch(self) -> None:
        """Watch; anew whenever the cluster has got another API or lost one, and whenever a
        namespace may not be listed any more, or again."""
        settings = self._settings
        while True:
            refused = self._refused
            namespaces = [each for each in settings.namespaces if each not in refused]
            self._has_relisted.set()
            async with watching(self._kinds, namespaces, settings.identity, self._see) as ended:
                await self._wait_for_another_cluster(ended, refused)
            await self._list()
            self._wake_all()

    async def _wait_for_another_cluster(
        self, ended: asyncio.Event, refused: frozenset[str]
    ) -> None:
        while self._refused == refused:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.discovery_seconds):
                    await ended.wait()
            if ended.is_set():
                # One watch that is forbidden, as in a namespace that is deleted, ends them all.
                await self._list()
                if self._refused == refused:
                    raise WatchingEndedError("the watches ended")
                return
            try:
                if await self._is_less_refused():
                    return
                optional = await find_optional(self._api)
            except ClusterApiError as error:
                _log.warning("cannot look for APIs", extra={"said": str(error)})
                continue
            if optional != self._optional:
                _log.info("has other APIs", extra={"kinds": [kind.kind for kind in optional]})
                self._optional = optional
                return

    async def _is_less_refused(self) -> bool:
        if not (before := self._refused):
            return False
        return len(await list_everything(self._api, self._store, self._kinds, before)) < len(before)

    def _see(self, kind: Kind, event_type: str | None, manifest: Manifest) -> None:
        self._metrics.watch_events.labels(kind.plural).inc()
        if event_type is None:
            self._has_relisted.set()
        if event_type == "DELETED":
            self._store.remove(manifest)
        else:
            self._store.put(manifest)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            try:
                await self._list(self._metrics)
            except ClusterApiError as error:
                _log.warning("cannot list what there is", extra={"said": str(error)})
            self._wake_all()

    async def _list_after_watches(self) -> None:
        """List whenever a watch has begun with a listing of its own.

        What was deleted before that, and after our last one, is in neither and no watch tells it.
        """
        while True:
            await self._has_relisted.wait()
            await asyncio.sleep(RELIST_SECONDS)
            self._has_relisted.clear()
            try:
                await self._list(self._metrics)
            except ClusterApiError as error:
                _log.warning("cannot list what there is", extra={"said": str(error)})
                self._has_relisted.set()

    def _wake_all(self) -> None:
        for key in self._store.services():
            self._waiting.add(key)

    @asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._waiting.close()

    def _unhealthy(self) -> str | None:
        stuck_seconds = self._waiting.longest_taken_seconds
        if stuck_seconds > self._settings.stuck_seconds:
            return f"a reconciliation has taken {stuck_seconds:.0f} s"
        return None

    def _unready(self) -> str | None:
        """A replica that waits for the Lease is ready: it is there when it is needed."""
        if not self._is_started:
            return "starting"
        if self._leads and not self._is_listed:
            return "lists what there is"
        return self._unhealthy()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping
