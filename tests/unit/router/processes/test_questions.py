"""Answers from elsewhere: each to who asked, and none to nobody."""

import asyncio

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.processes.questions import Questions


async def ask(questions: Questions[str]) -> "tuple[int, asyncio.Task[str]]":
    """Return the number of a question that was sent, and who waits for its answer."""
    numbers: list[int] = []
    task = asyncio.create_task(questions.ask(numbers.append))
    await asyncio.sleep(0)
    return numbers[0], task


async def test_each_answer_goes_to_who_asked() -> None:
    questions: Questions[str] = Questions()
    one, first = await ask(questions)
    two, second = await ask(questions)

    questions.answer(two, "second")
    questions.answer(one, "first")

    assert (await first, await second) == ("first", "second")
    assert not questions._futures


async def test_an_answer_may_be_an_error() -> None:
    questions: Questions[str] = Questions()
    number, answer = await ask(questions)

    questions.answer(number, RequestError(Fault.QUEUE_FULL, "no"))

    with pytest.raises(RequestError, match="no"):
        await answer


async def test_an_answer_to_who_has_left_is_ignored() -> None:
    questions: Questions[str] = Questions()
    number, answer = await ask(questions)
    answer.cancel()
    await asyncio.sleep(0)  # the future is cancelled, and its number still known

    questions.answer(number, "late")
    await asyncio.wait([answer])
    questions.answer(number, "later")

    assert answer.cancelled()


async def test_nobody_waits_for_ever() -> None:
    questions: Questions[str] = Questions(answer_seconds=0.0)

    with pytest.raises(RequestError) as raised:
        await questions.ask(lambda number: None)

    assert raised.value.fault is Fault.OVERLOADED


async def test_nobody_waits_for_who_has_gone() -> None:
    questions: Questions[str] = Questions()
    _, answer = await ask(questions)

    questions.lose()

    for attempt in (answer, questions.ask(lambda number: None)):
        with pytest.raises(RequestError) as raised:
            await attempt
        assert raised.value.fault is Fault.DRAINING
