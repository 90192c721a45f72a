"""Sums over processes that answer, are silent, or have gone."""

import asyncio

from twofold_router.processes.gathering import Gathering
from twofold_router.processes.messages import AskReport, Message, Report
from twofold_router.tallies import Labels, Tallies


class Process:
    """Answers with its count, unless it hangs."""

    def __init__(self, number: int, gathering: Gathering) -> None:
        self.number = number
        self.count = 0
        self.hangs = False
        self.gathering = gathering
        gathering.join(number, self.receive)

    def receive(self, message: Message) -> None:
        assert isinstance(message, AskReport)
        if not self.hangs:
            self.report()

    def report(self) -> None:
        counts: dict[str, dict[Labels, float]] = {"requests": {("2xx",): float(self.count)}}
        self.gathering.take(self.number, Report(Tallies(counts), connections=1))


def make(*, processes: int = 2) -> tuple[Gathering, list[Process]]:
    own = Tallies({"requests": {("2xx",): 1000.0}})
    gathering = Gathering(own, answer_seconds=0.0)
    made = [Process(number, gathering) for number in range(processes)]
    for process in made:
        process.report()
    return gathering, made


async def requests(gathering: Gathering) -> float:
    gathered = await gathering.gather()
    return gathered.tallies.counts["requests"]["2xx",]


async def test_counts_of_now_are_added_up() -> None:
    gathering, (one, two) = make()
    one.count, two.count = 3, 4

    gathered = await gathering.gather()

    assert gathered.tallies.counts["requests"]["2xx",] == 1007
    assert (gathered.connections, gathered.answering, gathered.silent) == (2, 2, 0)


async def test_a_silent_process_counts_as_it_told_last() -> None:
    gathering, (one, two) = make()
    one.count = two.count = 5
    await gathering.gather()
    one.count = two.count = 7
    two.hangs = True

    gathered = await gathering.gather()

    assert gathered.tallies.counts["requests"]["2xx",] == 1012
    assert (gathered.connections, gathered.answering, gathered.silent) == (2, 1, 1)


async def test_counts_of_an_ended_process_stay_and_its_connections_go() -> None:
    gathering, (one, two) = make()
    one.count = two.count = 5
    await gathering.gather()

    gathering.leave(two.number)

    gathered = await gathering.gather()
    assert gathered.tallies.counts["requests"]["2xx",] == 1010
    assert (gathered.connections, gathered.answering, gathered.ended) == (1, 1, 1)


async def test_a_process_that_never_told_anything_is_not_asked() -> None:
    gathering, _ = make(processes=1)
    starting = Process(7, gathering)
    starting.hangs = True

    gathered = await gathering.gather()
    gathering.leave(starting.number)

    assert (gathered.answering, gathered.silent) == (1, 0)


async def test_a_process_that_ends_is_not_waited_for() -> None:
    gathering, (_, two) = make()
    gathering._answer_seconds = 60.0
    two.hangs = True

    gathered = asyncio.create_task(gathering.gather())
    await asyncio.sleep(0)
    gathering.leave(two.number)

    async with asyncio.timeout(5):
        assert (await gathered).silent == 0


async def test_several_may_ask_at_once() -> None:
    gathering, (one, _) = make()
    one.count = 2

    counts = list(await asyncio.gather(requests(gathering), requests(gathering)))

    assert counts == [1002, 1002]
