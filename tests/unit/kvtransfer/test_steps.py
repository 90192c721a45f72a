import asyncio
import threading

import pytest

from twofold_kvtransfer.steps import Steps


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_steps_are_numbered_as_they_are_scheduled() -> None:
    steps = Steps()

    numbers = [(steps.next_number, steps.note_scheduled()) for _ in range(3)]

    assert numbers == [(1, 1), (2, 2), (3, 3)]


def test_with_a_step_those_before_it_are_done() -> None:
    steps = Steps()

    steps.note_done(2)

    assert [steps.has_done(number) for number in (0, 1, 2, 3)] == [True, True, True, False]


async def test_who_waits_for_a_step_is_woken_when_it_is_done_and_not_before() -> None:
    steps = Steps()
    waiting = {step: asyncio.ensure_future(steps.until_done(step)) for step in (1, 2, 2, 3)}
    await turns()
    done = []

    for step in (1, 2, 3):
        steps.note_done(step)
        await turns()
        done.append([number for number, each in waiting.items() if each.done()])

    assert done == [[1], [1, 2], [1, 2, 3]]


async def test_a_step_that_is_done_already_is_not_waited_for() -> None:
    steps = Steps()
    steps.note_done(3)

    async with asyncio.timeout(0):
        await steps.until_done(3)


async def test_the_engine_s_thread_wakes_who_waits_in_another() -> None:
    steps = Steps()
    waiting = asyncio.ensure_future(steps.until_done(1))
    await turns()

    thread = threading.Thread(target=steps.note_done, args=(1,))
    thread.start()
    async with asyncio.timeout(30):
        await waiting
    thread.join()


async def test_a_step_that_ends_while_somebody_begins_to_wait_is_not_missed() -> None:
    """The engine's thread looks for who waits between any two words of the other's."""

    class Torn(Steps):
        def has_done(self, step: int) -> bool:
            was_done = super().has_done(step)
            if not self.is_late:
                self.is_late = True
                self.note_done(1)
            return was_done

        is_late = False

    steps = Torn()

    async with asyncio.timeout(30):
        await steps.until_done(1)


async def test_a_step_that_nobody_waits_for_wakes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps()
    woken: list[object] = []
    loop = asyncio.get_running_loop()
    waits = asyncio.ensure_future(steps.until_done(9))
    await turns()
    monkeypatch.setattr(loop, "call_soon_threadsafe", woken.append)

    steps.note_done(1)
    assert len(woken) == 1, "this one is waited for, if not yet done"
    waits.cancel()
    await asyncio.wait([waits])
    steps.note_done(2)

    assert len(woken) == 1


async def test_who_waits_no_more_leaves_the_others_waiting() -> None:
    steps = Steps()
    one, other = (asyncio.ensure_future(steps.until_done(1)) for _ in range(2))
    await turns()

    one.cancel()
    await turns()
    steps.note_done(1)
    await turns()

    assert one.cancelled()
    assert other.done()


def test_a_loop_that_has_ended_does_not_stop_the_engine() -> None:
    steps = Steps()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(steps.until_done(1))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    steps_loop = steps._loop
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
    steps._loop = steps_loop  # as the engine's thread has read it just before

    steps.note_done(1)

    assert steps.has_done(1)


async def test_two_steps_that_end_at_a_time_wake_who_waits_once() -> None:
    steps = Steps()
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    waiting = asyncio.ensure_future(steps.until_done(1))
    await turns()

    steps.note_done(1)
    steps.note_done(2)
    await turns()

    assert waiting.done()
    assert errors == []
