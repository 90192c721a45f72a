"""What is called of NCCL, and where."""

import logging

import pytest
from tests.unit.kvtransfer.communicators.nccl_doubles import COMM, FIRST, STREAM, UINT8, FakeNccl

from twofold_kvtransfer.communicators.nccl_link import Link


@pytest.fixture
def nccl() -> FakeNccl:
    return FakeNccl()


@pytest.fixture
def link(nccl: FakeNccl) -> Link:
    return Link(nccl, 0, nccl.gpu.stream, nccl.gpu.memory(2), nccl.gpu.use)


def test_it_connects_both_ways_in_one_group(nccl: FakeNccl, link: Link) -> None:
    link.connect("id")

    assert nccl.calls == [
        ("ncclCommInitRank", 2, "id", 0),
        ("ncclGroupStart",),
        ("ncclSend", FIRST, 1, UINT8, 1, COMM, STREAM),
        ("ncclRecv", FIRST + 1, 1, UINT8, 1, COMM, STREAM),
        ("ncclGroupEnd",),
    ]


def test_all_is_called_on_the_device_of_the_blocks(nccl: FakeNccl, link: Link) -> None:
    link.connect("id")
    link.send(1, 2)
    link.receive(1, 2)
    link.close()

    assert {call[0] for call in nccl.calls} >= {"ncclSend", "ncclRecv", "ncclCommAbort"}
    assert nccl.elsewhere == []


def test_an_abort_that_fails_is_logged_and_the_stream_given_back(
    nccl: FakeNccl, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    link.connect("id")
    nccl.failing.add("ncclCommAbort")
    with caplog.at_level(logging.ERROR):
        link.close()

    assert "not ended in order" in caplog.text
    assert nccl.gpu.stream.close_count == 1


def test_one_that_was_never_made_is_not_aborted(nccl: FakeNccl, link: Link) -> None:
    nccl.failing.add("ncclCommInitRank")
    with pytest.raises(RuntimeError):
        link.connect("id")
    link.close()

    assert not nccl.count("ncclCommAbort")
    assert nccl.gpu.stream.close_count == 1
