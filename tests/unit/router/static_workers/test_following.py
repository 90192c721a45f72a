"""The set of given workers, as a router sees it change."""

import asyncio
import logging
from collections.abc import Sequence
from itertools import count

import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Worker
from twofold_router.static_workers import (
    Fetch,
    GivenWorker,
    ProbeSettings,
    StaticWorkers,
)
from twofold_router.static_workers.testing import FakeServers, vllm_pages

A, B = "http://a:80", "http://b:80"
GIVEN = [GivenWorker(Role.PREFILL, A), GivenWorker(Role.DECODE, B)]


class Rounds:
    """Runs the workers round by round: time passes only when all of them wait for it."""

    def __init__(self, fetch: Fetch, settings: ProbeSettings | None = None) -> None:
        lives = count(1)
        self.now = 0.0
        self.changes: list[tuple[list[str], list[str]]] = []
        self.slept: list[float] = []
        self.failing: dict[WorkerId, str] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self.static = StaticWorkers(
            GIVEN,
            fetch,
            service="service",
            on_change=self._note,
            failing=self.failing,
            settings=settings,
            incarnate=lambda: Incarnation(str(next(lives))),
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    @property
    def ids(self) -> list[str]:
        return sorted(self.static.workers)

    async def __aenter__(self) -> "Rounds":
        self._task = asyncio.create_task(self.static.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task

    async def round(self, waiting: int = len(GIVEN)) -> None:
        """Let each worker be probed once, until *waiting* of them wait for their next turn."""
        for future in self._waiting:
            future.set_result(None)
        self._waiting.clear()
        for _ in range(100):
            if len(self._waiting) == waiting:
                return
            await asyncio.sleep(0)
        pytest.fail("some workers do not wait for their next turn")

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._waiting.append(asyncio.get_running_loop().create_future())
        await self._waiting[-1]

    def _note(self, changed: Sequence[Worker], gone: Sequence[Worker]) -> None:
        self.changes.append(([w.worker_id for w in changed], [w.worker_id for w in gone]))
        for worker in changed:
            assert self.static.workers[worker.worker_id] is worker
        for worker in gone:
            assert worker.worker_id not in self.static.workers


async def test_workers_are_there_as_soon_as_they_answer() -> None:
    servers = FakeServers({A: vllm_pages()})
    async with Rounds(servers) as rounds:
        assert rounds.ids == []
        await rounds.round()
        assert rounds.ids == ["a:80"]

        servers[B] = vllm_pages()
        await rounds.round()

        assert rounds.ids == ["a:80", "b:80"]
        assert rounds.changes == [(["a:80"], []), (["b:80"], [])]
        assert not rounds.static.stale
        roles = {name: worker.role for name, worker in rounds.static.workers.items()}
        assert roles == {"a:80": Role.PREFILL, "b:80": Role.DECODE}


async def test_a_change_is_told_once_and_no_change_is_not() -> None:
    servers = FakeServers({A: vllm_pages(), B: vllm_pages()})
    async with Rounds(servers) as rounds:
        await rounds.round()
        rounds.changes.clear()
        await rounds.round()
        assert rounds.changes == []

        servers[A] = vllm_pages(running=3)
        await rounds.round()
        assert rounds.changes == [(["a:80"], [])]
        assert rounds.static.workers[GIVEN[0].worker_id].load.running_count == 3


async def test_a_worker_that_dies_is_told_once_and_comes_back_as_another() -> None:
    servers = FakeServers({A: vllm_pages(), B: vllm_pages()})
    async with Rounds(servers) as rounds:
        await rounds.round()
        rounds.changes.clear()
        first = rounds.static.workers[GIVEN[0].worker_id].incarnation

        del servers[A]
        for _ in range(5):
            await rounds.round()
        assert rounds.changes == [([], ["a:80"])]

        servers[A] = vllm_pages()
        await rounds.round()
        assert rounds.changes[1:] == [(["a:80"], [])]
        assert rounds.static.workers[GIVEN[0].worker_id].incarnation > first


async def test_a_worker_that_hangs_delays_nobody_and_is_gone_in_the_end() -> None:
    servers = FakeServers({A: vllm_pages(), B: vllm_pages()})
    hanging: list[str] = []

    async def fetch(origin: str, path: str, /) -> tuple[int, bytes]:
        if origin in hanging:
            await asyncio.Event().wait()
        return await servers(origin, path)

    async with Rounds(fetch) as rounds:
        await rounds.round()
        hanging.append(A)
        servers[B] = vllm_pages(running=1)
        await rounds.round(waiting=1)
        assert rounds.changes[2:] == [(["b:80"], [])]

    async with Rounds(fetch, ProbeSettings(probe_timeout_seconds=0.0)) as rounds:
        hanging.clear()
        await rounds.round()
        hanging.append(A)
        for _ in range(3):
            await rounds.round()
        assert rounds.changes[2:] == [([], ["a:80"])]


async def test_probes_begin_at_the_interval_however_long_they_take() -> None:
    servers = FakeServers({A: vllm_pages(), B: vllm_pages()})
    takes = {A: 0.5, B: 7.0}

    async def fetch(origin: str, path: str, /) -> tuple[int, bytes]:
        if path == "/health":
            rounds.now += takes[origin]
        return await servers(origin, path)

    rounds = Rounds(fetch, ProbeSettings(probe_interval_seconds=2.0))
    async with rounds:
        await rounds.round()

    assert rounds.slept == [1.5, 0.0]


async def test_what_is_wrong_is_logged_once_and_again_when_it_is_something_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers = FakeServers({B: vllm_pages()})
    unfit = vllm_pages() | {"/health": (503, b"")}
    with caplog.at_level(logging.WARNING):
        async with Rounds(servers) as rounds:
            for pages in (None, None, unfit, unfit, vllm_pages(), unfit):
                if pages is not None:
                    servers[A] = pages
                await rounds.round()

    errors = [record.error for record in caplog.records if hasattr(record, "error")]
    assert [error[:12] for error in errors] == ["RefusedError", "ProbeFailedE", "ProbeFailedE"]


async def test_what_is_wrong_is_told_of_those_that_failed_their_last_probe() -> None:
    servers = FakeServers({A: vllm_pages() | {"/health": (503, b"")}})

    async def fetch(origin: str, path: str, /) -> tuple[int, bytes]:
        if origin == B:
            await asyncio.Event().wait()
        return await servers(origin, path)

    async with Rounds(fetch, ProbeSettings(probe_timeout_seconds=0.0)) as rounds:
        await rounds.round()
        before = dict(rounds.failing)
        servers[A] = vllm_pages()
        await rounds.round()

        assert before == {"a:80": "/health answered 503", "b:80": "TimeoutError()"}
        assert rounds.failing == {"b:80": "TimeoutError()"}
