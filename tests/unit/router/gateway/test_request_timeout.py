"""The deadlines of many tasks, swept by a clock that the test winds."""

import asyncio

import pytest

from twofold_cluster.identity import WorkerId
from twofold_router.gateway.request_timeout import Deadline, Deadlines


async def hang(deadline: Deadline) -> str:
    try:
        with deadline:
            await asyncio.Event().wait()
    except TimeoutError:
        return "too late"
    return "in time"


async def begin(deadlines: Deadlines, moment: float) -> tuple["asyncio.Task[str]", Deadline]:
    deadline = deadlines.at(moment)
    task = asyncio.create_task(hang(deadline))
    await asyncio.sleep(0)
    return task, deadline


async def test_only_those_whose_time_is_over_are_ended() -> None:
    deadlines = Deadlines()
    early, early_deadline = await begin(deadlines, 10.0)
    late, late_deadline = await begin(deadlines, 20.0)
    deadlines.sweep(9.9)
    deadlines.sweep(10.0)
    ended = await early

    assert ended == "too late"
    assert (early_deadline.expired, late_deadline.expired) == (True, False)
    assert not late.done()
    deadlines.sweep(20.0)
    assert await late == "too late"


async def test_a_block_that_has_ended_has_no_deadline_any_more() -> None:
    deadlines = Deadlines()
    with deadlines.at(1.0):
        pass
    deadlines.sweep(2.0)
    await asyncio.sleep(0)


async def test_a_task_that_is_cancelled_stays_cancelled() -> None:
    deadlines = Deadlines()
    task, deadline = await begin(deadlines, 10.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not deadline.expired


async def test_a_task_that_is_cancelled_and_too_late_stays_cancelled() -> None:
    deadlines = Deadlines()
    task, deadline = await begin(deadlines, 10.0)
    deadlines.sweep(10.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert deadline.expired


async def test_another_error_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="other"), Deadlines().at(1.0):
        raise ValueError("other")


async def test_after_its_deadline_a_task_may_wait_again() -> None:
    deadlines = Deadlines()

    async def wait() -> int:
        try:
            with deadlines.at(1.0):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0)
        current = asyncio.current_task()
        assert current is not None
        return current.cancelling()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    deadlines.sweep(1.0)

    assert await task == 0


async def test_one_that_ends_in_the_moment_of_its_deadline_is_cut_off_once() -> None:
    deadlines = Deadlines()
    gate = asyncio.Event()
    deadline = deadlines.at(1.0)

    async def wait() -> str:
        try:
            with deadline:
                await gate.wait()
        except TimeoutError:
            return "too late"
        return "in time"

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    gate.set()
    deadlines.sweep(1.0)
    deadlines.sweep(2.0)

    assert await task == "too late"


async def test_one_that_looks_is_not_ended_and_looks_again() -> None:
    deadlines = Deadlines()
    task, deadline = await begin(deadlines, 10.0)
    deadline.look = lambda: 30.0
    deadlines.sweep(20.0)
    await asyncio.sleep(0)
    was_done = task.done()
    deadline.look = None
    deadlines.sweep(30.0)

    assert not was_done
    assert await task == "too late"


async def test_those_who_wait_at_a_worker_are_ended_with_it() -> None:
    deadlines = Deadlines()
    ends: list[str] = []

    async def at(worker: str, *, lifted: bool) -> str:
        deadline = deadlines.at(10.0, WorkerId(worker))
        try:
            with deadline:
                if lifted:
                    deadline.lift(lambda: ends.append(worker))
                await asyncio.sleep(0.05)
        except TimeoutError:
            return "ended"
        return "in time"

    tasks = [
        asyncio.create_task(at(worker, lifted=lifted))
        for worker in ("w1", "w2")
        for lifted in (False, True)
    ]
    await asyncio.sleep(0)
    deadlines.end_at(WorkerId("w1"))

    assert await asyncio.gather(*tasks) == ["ended", "in time", "in time", "in time"]
    assert ends == ["w1"]


async def test_what_outlasts_the_requests_is_not_ended_with_them() -> None:
    deadlines = Deadlines()
    request, _ = await begin(deadlines, 10.0)
    outlasting = deadlines.at(10.0, outlasts=True)
    other = asyncio.create_task(hang(outlasting))
    await asyncio.sleep(0)
    deadlines.end_all()

    assert await request == "too late"
    assert not outlasting.expired
    deadlines.sweep(10.0)
    assert await other == "too late"
