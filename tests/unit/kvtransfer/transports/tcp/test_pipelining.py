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


def test_at_its_end_it_does_not_wait_for_the_jobs_of_others() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def another() -> None:
        begun.set()
        go_on.wait(5)
        ended.set()

    with ThreadPoolExecutor(1) as one:
        one.submit(another)
        assert begun.wait(10)
        with Pipeline[None](one, 1) as pipeline:
            pipeline.start(lambda: None)
        was_waited_for = ended.is_set()
        go_on.set()

    assert not was_waited_for


def test_a_result_is_ready_when_its_job_has_ended() -> None:
    go_on = threading.Event()
    with ThreadPoolExecutor(1) as one, Pipeline[bool](one, 2) as pipeline:
        pipeline.start(lambda: go_on.wait(10))
        before = pipeline.is_ready
        go_on.set()
        one.submit(lambda: None).result()

        assert not before
        assert pipeline.is_ready


def test_what_a_job_raised_is_raised_to_who_takes_it(threads: ThreadPoolExecutor) -> None:
    def fail() -> None:
        raise LookupError

    with Pipeline[None](threads, 1) as pipeline:
        pipeline.start(fail)
        with pytest.raises(LookupError):
            pipeline.take()
