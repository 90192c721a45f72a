import asyncio
from typing import Any

from tests.unit.engine.prefixes.workers import P0, a_worker

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import WorkerState
from twofold_engine.announcing import AnnouncedWorker
from twofold_engine.gate import Gate
from twofold_engine.load import LoadMeter
from twofold_engine.settings import WorkerSettings

SETTINGS = WorkerSettings(
    service="s", worker_id=WorkerId("w"), role=Role.PREFILL, model="m", served_name="m"
)


async def test_who_waits_for_a_drain_is_told_when_new_requests_are_refused() -> None:
    async def app(*_: Any) -> None:
        return None

    announced = AnnouncedWorker(SETTINGS, LoadMeter())
    gate = Gate(app, announced.admit, announced.refresh)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(announced.run(a_worker(P0), gate))
        waiting = tasks.create_task(announced.until_draining())
        await asyncio.sleep(0)
        before = waiting.done()
        await announced.drain()
        async with asyncio.timeout(30):
            await waiting
        running.cancel()

    assert not before
    assert announced.worker.state is WorkerState.DRAINING
    assert announced.request_count == 0
