"""One pool manager: its state as it changes, and what it is told."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc

from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc import pools_pb2_grpc as rpc
from twofold_operator.planning.observed import SeenManager, SeenWorker, Told
from twofold_operator.pool_managers.errors import ManagerUnreachableError
from twofold_operator.pool_managers.generations import Generations
from twofold_operator.pool_managers.wire import apply_request, seen_workers

_log = logging.getLogger(__name__)

_OPTIONS = (
    # A manager's death is seen while nothing changes; it permits pings this often.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A new channel shall not inherit the backoff of those before it.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    unreachable_seconds: float = 10.0
    """For so long after its connection ended a manager counts as it was seen last."""
    answer_seconds: float = 10.0
    """Of an Apply, and of the first state of a stream."""
    min_retry_seconds: float = 0.5
    max_retry_seconds: float = 5.0
    """Between attempts to connect; a manager starts within a minute or so of its Service."""
    attempt_count: int = 64
    """Managers that are asked at a time until they answer. All of them at once, as when an operator
    starts, would be so slow that many would seem not to."""


class ManagerConnection:
    """Follows the manager at one address until it is cancelled; ``changed`` is called at news."""

    def __init__(
        self,
        address: str,
        generations: Generations,
        changed: Callable[[], None],
        limits: ConnectionLimits,
        turns: asyncio.Semaphore,
    ) -> None:
        self._address = address
        self._generations = generations
        self._changed = changed
        self._limits = limits
        self._turns = turns
        self._stub: rpc.PoolsAsyncStub | None = None
        self._workers: tuple[SeenWorker, ...] | None = None
        self._reported_generation = 0
        self._told: Told | None = None
        self._told_generation = 0
        self._refused: tuple[Told, str] | None = None
        self._forgetting: asyncio.TimerHandle | None = None
        self._is_asked = False
        self._patience: asyncio.TimerHandle | None = None

    @property
    def is_asked(self) -> bool:
        """Tell whether it has answered, or has had the time to."""
        return self._is_asked

    def seen(self) -> SeenManager | None:
        """Its last state; None while it does not answer."""
        if self._workers is None:
            return None
        is_told = self._told is not None and self._reported_generation == self._told_generation
        return SeenManager(
            self._workers,
            told=self._told if is_told else None,
            refusal=self._refused[1] if self._refused else "",
        )

    async def tell(self, told: Told) -> None:
        """Apply *told*.

        Raises:
            ManagerUnreachableError: the manager does not answer.
        """
        stub = self._stub
        if stub is None:
            raise ManagerUnreachableError(f"{self._address} is not connected")
        generation = self._generations.next(above=self._reported_generation)
        try:
            await stub.Apply(apply_request(generation, told), timeout=self._limits.answer_seconds)
        except grpc.aio.AioRpcError as error:
            said = error.details() or error.code().name
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise ManagerUnreachableError(f"{self._address}: {said}") from error
            if self._refused != (told, said):
                extra = {"address": self._address, "said": said}
                _log.warning("a pool manager refuses what it is told", extra=extra)
                self._refused = (told, said)
                self._changed()
            return
        if self._stub is not stub:
            return  # it has ended meanwhile; its successor is told again
        self._told, self._told_generation = told, generation
        self._reported_generation = generation
        self._refused = None
        self._changed()

    async def run(self) -> None:
        """Follow the manager, over however many of its lives, until cancelled."""
        retry_seconds = self._limits.min_retry_seconds
        try:
            while True:
                if await self._follow():
                    retry_seconds = self._limits.min_retry_seconds
                await asyncio.sleep(retry_seconds * random.uniform(0.5, 1.0))  # noqa: S311
                retry_seconds = min(2 * retry_seconds, self._limits.max_retry_seconds)
        finally:
            if self._patience is not None:
                self._patience.cancel()
            self._keep()

    async def _follow(self) -> bool:
        """Follow one stream to its end; tell whether there was a state in it."""
        is_first = True
        async with (
            AsyncExitStack() as turn,
            grpc.aio.insecure_channel(self._address, options=_OPTIONS) as channel,
        ):
            await turn.enter_async_context(self._turns)
            self._begin_to_wait()
            self._stub = rpc.PoolsStub(channel)
            stream = self._stub.Watch(pb.WatchRequest())
            try:
                async with asyncio.timeout(self._limits.answer_seconds) as limit:
                    async for state in stream:
                        limit.reschedule(None)
                        self._take(state, is_first)
                        if is_first:
                            await turn.aclose()
                        is_first = False
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                level = logging.DEBUG if is_first else logging.INFO
                extra = {"address": self._address, "said": _said(error)}
                _log.log(level, "a pool manager does not answer", extra=extra)
            finally:
                self._stub = None
                stream.cancel()
                self._forget_later()
        return not is_first

    def _take(self, state: pb.State, is_first: bool) -> None:
        if is_first:
            # What an Apply returned meanwhile is in it, unless another process answers now.
            self._reported_generation = state.observed_generation
        else:
            # A state may have been sent before an Apply that has returned already.
            self._reported_generation = max(self._reported_generation, state.observed_generation)
        self._keep()
        self._is_asked = True
        self._workers = seen_workers(state)
        self._changed()

    def _begin_to_wait(self) -> None:
        if self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._limits.unreachable_seconds, self._give_up)

    def _give_up(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            self._changed()

    def _forget_later(self) -> None:
        if self._workers is None or self._forgetting is not None:
            return
        loop = asyncio.get_running_loop()
        self._forgetting = loop.call_later(self._limits.unreachable_seconds, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        self._workers = None
        self._changed()

    def _keep(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None


def _said(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
