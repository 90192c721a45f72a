import logging
import threading

import pytest

from twofold_kvtransfer.transports.sockets.joining import join_all


def test_a_thread_that_does_not_end_is_told_by_name(caplog: pytest.LogCaptureFixture) -> None:
    end = threading.Event()
    slow = threading.Thread(target=end.wait, name="slow-one")
    slow.start()
    try:
        join_all([slow], seconds=0)
    finally:
        end.set()
        slow.join()

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].__dict__["thread_name"] == "slow-one"


def test_threads_that_end_are_waited_for_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    threads = [threading.Thread(target=lambda: None) for _ in range(3)]
    for thread in threads:
        thread.start()
    join_all(threads)

    assert not any(thread.is_alive() for thread in threads)
    assert caplog.records == []
