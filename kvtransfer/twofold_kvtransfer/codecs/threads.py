"""Threads that code, each alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

START_SECONDS = 30.0
"""For all threads to be there. Only a starved host needs so long."""


def coding_threads(count: int, start_seconds: float = START_SECONDS) -> ThreadPoolExecutor:
    """Start *count* threads in which torch has no threads of its own; the caller ends them.

    torch's threads would wait for each other after every operation of some microseconds: on a
    busy machine that takes ten times as long as one thread does.

    Raises:
        threading.BrokenBarrierError: they were not all there within *start_seconds*.
    """
    # torch keeps the number of its threads per thread, and a default for new ones.
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "kv-codec", initializer=_be_alone)
    # All at once, so that each is started now and none later, after the default is put back.
    together = threading.Barrier(count)
    try:
        started = [pool.submit(together.wait, start_seconds) for _ in range(count)]
        for thread in started:
            thread.result()
    except BaseException:
        together.abort()
        pool.shutdown()
        raise
    finally:
        torch.set_num_threads(before)
    return pool


def _be_alone() -> None:
    torch.set_num_threads(1)
    # A thread takes the default once, when torch first looks: now, and not when it is put back.
    torch.get_num_threads()
