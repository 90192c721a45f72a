"""A thread with an event loop of its own."""

import asyncio
import threading

import pytest

from twofold_kvtransfer.loop_thread import LoopThread


class Served:
    """What serves until it is told to end, or fails before."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.thread: LoopThread[asyncio.Event] = LoopThread("served", self.serve)
        self.was_served_in = ""

    async def serve(self) -> None:
        if self.error is not None:
            raise self.error
        self.was_served_in = threading.current_thread().name
        told = asyncio.Event()
        self.thread.note_serving(told)
        await told.wait()


def test_it_serves_until_it_is_told_to_end() -> None:
    served = Served()
    served.thread.start()
    served.thread.call(asyncio.Event.set)

    assert served.thread.join()
    assert served.was_served_in == "served"


def test_what_keeps_it_from_serving_is_told_to_who_starts_it() -> None:
    served = Served(OSError("the port is taken"))

    with pytest.raises(OSError, match="the port is taken"):
        served.thread.start()
    assert served.thread.join()


def test_one_that_was_not_started_has_ended_and_takes_no_calls() -> None:
    served = Served()
    served.thread.call(asyncio.Event.set)

    assert served.thread.join()


def test_one_that_has_ended_takes_no_calls() -> None:
    served = Served()
    served.thread.start()
    served.thread.call(asyncio.Event.set)
    served.thread.join()

    served.thread.call(asyncio.Event.set)


def test_one_that_ends_by_an_error_leaves_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Served):
        async def serve(self) -> None:
            await super().serve()
            raise ValueError("unforeseen")

    served = Failing()
    served.thread.start()
    served.thread.call(asyncio.Event.set)

    assert served.thread.join()
    assert "the thread served has ended" in caplog.text
    assert "unforeseen" in caplog.text
