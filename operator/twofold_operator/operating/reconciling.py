"""The loop: look at a service, plan, act; again whenever something of it changes."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from twofold_operator.cluster_api import (
    ClusterApiError,
    ConflictError,
    NotFoundError,
    ServiceKey,
    Store,
)
from twofold_operator.operating.acting import Actor
from twofold_operator.operating.doing import Done, do_all
from twofold_operator.operating.metrics import OperatorMetrics
from twofold_operator.operating.waiting import WaitingKeys
from twofold_operator.planning import PlanSettings, manager_addresses, plan
from twofold_operator.planning.actions import Action, LookAgain, RecordEvent, SetStatus
from twofold_operator.planning.adapters import service_missing
from twofold_operator.planning.observed import Manifest, Observed
from twofold_operator.planning.reporting import failure_report, lost_reports
from twofold_operator.pool_managers import PoolManagers

_log = logging.getLogger(__name__)

Result = Literal["settled", "changed", "conflict", "waiting", "failed"]

CONFLICT_SECONDS = 0.5
"""For the watch to bring what somebody else wrote."""
MAX_CONFLICTS = 3
"""After so many failures in a row a conflict is no race, and is told."""
MAX_CHANGING_ROUNDS = 30
"""After so many rounds in a row that wrote something, somebody fights us: we answer slower."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Between tries that fail."""

    min_seconds: float
    max_seconds: float

    def after(self, failures: int) -> float:
        return min(self.max_seconds, self.min_seconds * 2.0 ** min(failures - 1, 30))


class Reconciler:
    """Reconciles the services that wait, some at a time, each by one worker at a time."""

    def __init__(
        self,
        *,
        store: Store,
        managers: PoolManagers,
        actor: Actor,
        waiting: WaitingKeys[ServiceKey],
        metrics: OperatorMetrics,
        settings: PlanSettings,
        backoff: Backoff,
        apis: Callable[[], frozenset[str]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._managers = managers
        self._actor = actor
        self._waiting = waiting
        self._metrics = metrics
        self._settings = settings
        self._backoff = backoff
        self._apis = apis
        self._wall_clock = wall_clock
        self._failures: dict[ServiceKey, int] = {}
        self._changing: dict[ServiceKey, int] = {}
        self._not_before: dict[ServiceKey, float] = {}

    async def work(self) -> None:
        """Reconcile one service after another until cancelled."""
        while True:
            key = await self._waiting.take()
            try:
                await self._reconcile_counted(key)
            finally:
                self._waiting.done(key)

    async def _reconcile_counted(self, key: ServiceKey) -> None:
        began = time.monotonic()
        try:
            result: Result = await self.reconcile(key)
        except Exception as error:  # noqa: BLE001 logged and counted; the others go on
            result = "failed"
            self._fail(key, error)
        self._metrics.reconciliations.labels(result).inc()
        self._metrics.seconds.observe(time.monotonic() - began)

    async def reconcile(self, key: ServiceKey) -> Result:
        """Plan for one service and carry the plan out.

        Raises:
            ClusterApiError: an action failed in a way that waiting may not mend.
        """
        try:
            return await self._round(key)
        except ConflictError as error:
            _log.info("somebody else wrote", extra=_about(key, error))
            self._waiting.add_later(key, CONFLICT_SECONDS)
            return "conflict"
        except NotFoundError as error:
            _log.info("went meanwhile", extra=_about(key, error))
            await self._actor.look(key)
            self._waiting.add_later(key, self._again_seconds(key))
            return "conflict"

    async def _round(self, key: ServiceKey) -> Result:
        observed = self._store.observed(key)
        if observed is None:
            self._forget(key)
            why = service_missing(key.name)
            lost = lost_reports(self._store.adapters(key), why, self._wall_clock())
            return self._finish(key, await self._do(key, {}, lost))
        if (wait_seconds := self._not_before.get(key, 0.0) - time.monotonic()) > 0:
            self._waiting.add_later(key, wait_seconds)
            return "waiting"
        self._managers.follow(key, manager_addresses(observed.children.values()))
        observed = replace(
            observed,
            managers=self._managers.seen(key),
            unasked=self._managers.unasked(key),
            apis=self._apis(),
        )
        return await self._carry_out(key, observed)

    async def _carry_out(self, key: ServiceKey, observed: Observed) -> Result:
        """Do what is to be done, and then say how that went."""
        now = self._wall_clock()
        actions = await self._plan(key, observed, now)
        done = await self._do(key, observed.service, filter(_is_deed, actions))
        if told := self._worth_telling(key, done.refused):
            actions = await self._plan(key, replace(observed, refused=told), now)
        said = await self._do(key, observed.service, filter(_is_report, actions))
        for action in actions:
            if isinstance(action, LookAgain):
                self._waiting.add_later(key, action.after_seconds)
        return self._finish(key, Done.of(done, said))

    async def _plan(self, key: ServiceKey, observed: Observed, now: float) -> list[Action]:
        """Return the plan; a service that cannot be planned says so, also when nobody reads logs.

        Raises:
            Exception: whatever the plan ended with.
        """
        try:
            return plan(observed, self._settings, now)
        except Exception as error:
            await self._do(key, observed.service, failure_report(observed, error, now))
            raise

    def _finish(self, key: ServiceKey, done: Done) -> Result:
        self._pace(key, done.is_changing)
        if done.refused:
            self._fail(key, done.refused[0])
            return "failed"
        if done.unreachable:
            for error in done.unreachable:
                _log.info("a pool manager does not answer", extra=_about(key, error))
            self._waiting.add_later(key, self._again_seconds(key))
            return "waiting"
        self._failures.pop(key, None)
        return "changed" if done.is_changing else "settled"

    async def _do(self, key: ServiceKey, service: Manifest, actions: Iterable[Action]) -> Done:
        async def act(action: Action) -> None:
            self._metrics.actions.labels(type(action).__name__).inc()
            await self._actor.act(key, service, action)

        return await do_all(actions, act)

    def _worth_telling(
        self, key: ServiceKey, refused: Iterable[ClusterApiError]
    ) -> tuple[str, ...]:
        """Return what was refused, but conflicts only when they come again and again."""
        often = self._failures.get(key, 0) >= MAX_CONFLICTS
        return tuple(
            str(error) for error in refused if often or not isinstance(error, ConflictError)
        )

    def _pace(self, key: ServiceKey, is_changing: bool) -> None:
        """Answer slower and slower to whoever undoes what we write, again and again."""
        self._not_before.pop(key, None)
        if not is_changing:
            self._changing.pop(key, None)
            return
        rounds = self._changing[key] = self._changing.get(key, 0) + 1
        too_many = rounds - MAX_CHANGING_ROUNDS
        if too_many == 0:
            _log.warning("does not settle; does somebody fight us?", extra=_about(key))
        if too_many >= 0:
            self._not_before[key] = time.monotonic() + self._backoff.after(too_many + 1)

    def _forget(self, key: ServiceKey) -> None:
        self._managers.follow(key, ())
        for known in (self._failures, self._changing, self._not_before):
            known.pop(key, None)

    def _fail(self, key: ServiceKey, error: Exception) -> None:
        self._metrics.errors.labels(type(error).__name__).inc()
        seconds = self._again_seconds(key)
        extra = _about(key, error) | {"again_after_seconds": round(seconds, 3)}
        if isinstance(error, ClusterApiError):
            _log.warning("could not reconcile", extra=extra)
        else:
            _log.error("could not reconcile", extra=extra, exc_info=error)
        self._waiting.add_later(key, seconds)

    def _again_seconds(self, key: ServiceKey) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return self._backoff.after(failures)


async def run_workers(reconciler: Reconciler, count: int) -> None:
    """Let *count* workers reconcile until cancelled."""
    async with asyncio.TaskGroup() as workers:
        for _ in range(count):
            workers.create_task(reconciler.work())


def _about(key: ServiceKey, error: Exception | None = None) -> dict[str, str]:
    about = {"service": f"{key.namespace}/{key.name}"}
    if error is not None:
        about["said"] = str(error)
    return about


def _is_report(action: Action) -> bool:
    return isinstance(action, SetStatus | RecordEvent)


def _is_deed(action: Action) -> bool:
    return not isinstance(action, SetStatus | RecordEvent | LookAgain)
