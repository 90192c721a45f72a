"""Answers from elsewhere: each to who asked, and none to nobody."""

import asyncio

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.processes.questions import Questions


async def test_each_answer_goes_to_who_asked() -> None:
    questions: Questions[str] = Questions()
    one, first = questions.open()
    two, second = questions.open()

    questions.answer(two, "second")
    questions.answer(one, "first")

    assert (await first, await second) == ("first", "second")


async def test_an_answer_may_be_an_error() -> None:
    questions: Questions[str] = Questions()
    number, answer = questions.open()

    questions.answer(number, RequestError(Fault.QUEUE_FULL, "no"))

    with pytest.raises(RequestError, match="no"):
        await answer


async def test_an_answer_to_who_has_left_is_ignored() -> None:
    questions: Questions[str] = Questions()
    number, answer = questions.open()
    answer.cancel()

    questions.answer(number, "late")
    await asyncio.sleep(0)
    questions.answer(number, "later")

    assert answer.cancelled()


async def test_nobody_waits_for_who_has_gone() -> None:
    questions: Questions[str] = Questions()
    _, answer = questions.open()

    questions.lose()

    with pytest.raises(RequestError) as raised:
        await answer
    assert raised.value.fault is Fault.DRAINING
    with pytest.raises(RequestError):
        questions.open()
