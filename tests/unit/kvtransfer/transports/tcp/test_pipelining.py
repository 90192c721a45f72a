import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from twofold_kvtransfer.transports.tcp.pipelining import Pipeline


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_results_come_in_the_order_of_their_jobs(threads: ThreadPoolExecutor) -> None:
    second_ran = threading.Event()

    def first() -> str:
        assert second_ran.wait(10)
        return "first"

    def second() -> str:
        second_ran.set()
        return "second"

    with Pipeline[str](threads, 2) as pipeline:
        pipeline.start(first)
        room = [pipeline.is_full]
        pipeline.start(second)
        room.append(pipeline.is_full)

        assert room == [False, True]
        assert [pipeline.take(), pipeline.take()] == ["first", "second"]
        assert len(pipeline) == 0


def test_at_its_end_what_runs_has_ended_and_the_rest_never_begins() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def slow() -> None:
        begun.set()
        assert go_on.wait(10)
        ended.append("slow")

    with ThreadPoolExecutor(1) as one:
        with Pipeline[None](one, 3) as pipeline:
            pipeline.start(slow)
            pipeline.start(lambda: ended.append("later"))
            assert begun.wait(10)
            threading.Timer(0.01, go_on.set).start()

        assert ended == ["slow"]


def test_what_a_job_raised_is_raised_to_who_takes_it(threads: ThreadPoolExecutor) -> None:
    def fail() -> None:
        raise LookupError

    with Pipeline[None](threads, 1) as pipeline:
        pipeline.start(fail)
        with pytest.raises(LookupError):
            pipeline.take()
