import asyncio

from twofold_operator.operating.waiting import WaitingKeys

LIMIT_SECONDS = 60.0


async def test_what_is_added_twice_waits_once() -> None:
    waiting: WaitingKeys[str] = WaitingKeys()
    waiting.add("a")
    waiting.add("a")
    waiting.add("b")

    assert [await waiting.take(), await waiting.take()] == ["a", "b"]
    assert waiting.depth == 0


async def test_a_key_that_is_added_while_taken_waits_until_it_is_done() -> None:
    waiting: WaitingKeys[str] = WaitingKeys()
    waiting.add("a")
    await waiting.take()
    waiting.add("a")
    assert waiting.depth == 0
    waiting.done("a")

    assert waiting.depth == 1


async def test_whoever_takes_waits_for_a_key() -> None:
    waiting: WaitingKeys[str] = WaitingKeys()
    taking = asyncio.create_task(waiting.take())
    await asyncio.sleep(0)
    waiting.add_later("a", 0.0)

    assert await asyncio.wait_for(taking, LIMIT_SECONDS) == "a"


async def test_the_earlier_of_two_times_counts() -> None:
    waiting: WaitingKeys[str] = WaitingKeys()
    waiting.add_later("a", 0.0)
    waiting.add_later("a", 10_000.0)

    assert await asyncio.wait_for(waiting.take(), LIMIT_SECONDS) == "a"


async def test_closing_forgets_what_would_wait_later() -> None:
    waiting: WaitingKeys[str] = WaitingKeys()
    waiting.add_later("a", 0.0)
    waiting.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert waiting.depth == 0
