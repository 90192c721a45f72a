import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from twofold_kvtransfer.codecs.threads import coding_threads


def thread_count_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as one:
        count: int = one.submit(torch.get_num_threads).result()
    return count


def test_torch_has_one_thread_in_each_and_elsewhere_as_many_as_before() -> None:
    before = thread_count_of_a_new_thread()
    with coding_threads(2) as pool:
        inside = [pool.submit(torch.get_num_threads).result() for _ in range(4)]

    assert inside == [1] * 4
    assert thread_count_of_a_new_thread() == before


def test_threads_that_are_not_there_in_time_are_ended_and_torch_has_as_many_as_before() -> None:
    before, threads = thread_count_of_a_new_thread(), set(threading.enumerate())
    with pytest.raises(threading.BrokenBarrierError):
        coding_threads(8, start_seconds=0.0)

    assert thread_count_of_a_new_thread() == before
    assert set(threading.enumerate()) == threads
