"""A making has a time limit, and few may be given up."""

import threading
from collections.abc import Callable

import pytest
from tests.unit.kvtransfer.communicators.nccl_doubles import BOUND_SECONDS, FakeNccl

from twofold_kvtransfer.communicators.nccl_link import Link
from twofold_kvtransfer.communicators.nccl_making import GivenUp, Making
from twofold_kvtransfer.transports.sockets.failing import TransferError


def link_of(nccl: FakeNccl) -> Link:
    link = Link(nccl, 0, nccl.gpu.stream, nccl.gpu.memory(2), nccl.gpu.use)
    link.connect("id")
    return link


def after(may_end: threading.Event, nccl: FakeNccl) -> Callable[[], Link]:
    def make() -> Link:
        assert may_end.wait(BOUND_SECONDS)
        return link_of(nccl)

    return make


def no_time() -> Callable[[], float]:
    """Return a clock by which all time has passed at the second look."""
    times = iter([0.0, 100.0])
    return lambda: next(times)


@pytest.mark.parametrize("how", ["timeout", "peer-lost"])
def test_a_making_that_does_not_end_is_given_up_and_its_late_result_aborted(how: str) -> None:
    may_end, nccl = threading.Event(), FakeNccl()
    making = Making(after(may_end, nccl), GivenUp())
    with pytest.raises(TransferError, match=how):
        making.wait(5, lambda: how == "peer-lost", no_time())
    assert not nccl.calls
    may_end.set()

    assert nccl.aborted.wait(BOUND_SECONDS)


def test_a_making_that_fails_says_why() -> None:
    def make() -> Link:
        raise RuntimeError("NCCL error: unhandled")

    making = Making(make, GivenUp())
    with pytest.raises(TransferError, match="protocol: NCCL error: unhandled"):
        making.wait(BOUND_SECONDS, lambda: False, lambda: 0.0)


def test_none_begins_while_too_many_that_were_given_up_go_on() -> None:
    may_end, nccl, given_up = threading.Event(), FakeNccl(), GivenUp(most=2)
    for _ in range(2):
        with pytest.raises(TransferError, match="timeout"):
            Making(after(may_end, nccl), given_up).wait(5, lambda: False, no_time())
    with pytest.raises(TransferError, match="busy"):
        Making(lambda: link_of(nccl), given_up)
    may_end.set()


def test_one_that_was_given_up_and_has_ended_makes_room() -> None:
    may_end, nccl, given_up = threading.Event(), FakeNccl(), GivenUp(most=1)
    with pytest.raises(TransferError, match="timeout"):
        Making(after(may_end, nccl), given_up).wait(5, lambda: False, no_time())
    may_end.set()
    assert nccl.aborted.wait(BOUND_SECONDS)

    making = Making(lambda: link_of(nccl), given_up)
    assert not making.wait(BOUND_SECONDS, lambda: False, lambda: 0.0).is_closed


def test_any_number_may_go_well_at_once() -> None:
    may_end, given_up = threading.Event(), GivenUp(most=1)
    makings = [Making(after(may_end, FakeNccl()), given_up) for _ in range(3)]
    may_end.set()

    for making in makings:
        assert not making.wait(BOUND_SECONDS, lambda: False, lambda: 0.0).is_closed
