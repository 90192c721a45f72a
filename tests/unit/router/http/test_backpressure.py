"""Who waits while a buffer is full."""

import asyncio

from twofold_router.http.backpressure import Backpressure


class Tap:
    """A source that remembers whether it runs."""

    def __init__(self) -> None:
        self.runs = True

    def pause_reading(self) -> None:
        self.runs = False

    def resume_reading(self) -> None:
        self.runs = True


def test_a_source_runs_while_the_buffer_is_not_full() -> None:
    pressure, tap = Backpressure(), Tap()
    pressure.follow(tap)

    pressure.rise()
    was_running = tap.runs
    pressure.fall()

    assert not was_running
    assert tap.runs


def test_a_source_that_comes_to_a_full_buffer_waits() -> None:
    pressure, tap = Backpressure(), Tap()
    pressure.rise()

    pressure.follow(tap)

    assert not tap.runs


def test_a_source_that_was_let_go_runs_on() -> None:
    pressure, tap = Backpressure(), Tap()
    pressure.follow(tap)
    pressure.follow(None)

    pressure.rise()

    assert tap.runs


async def test_all_who_drain_are_woken() -> None:
    pressure = Backpressure()
    pressure.rise()
    tasks = [asyncio.create_task(pressure.drain()) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    was_waiting = not tasks[1].done()

    pressure.fall()
    await tasks[1]

    assert was_waiting


async def test_a_buffer_that_is_not_full_is_drained() -> None:
    await Backpressure().drain()
