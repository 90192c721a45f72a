from tests.unit.kvtransfer.transports.clocks import Clock

from twofold_kvtransfer.transports.tcp.accounts import Account, BusyTime, Stages


def test_time_in_which_two_are_inside_counts_once() -> None:
    clock = Clock(5.0)
    busy = BusyTime(clock)
    with busy:
        clock.now += 1
        with busy:
            clock.now += 2
        clock.now += 4
    clock.now += 100

    assert busy.seconds == 7


def test_a_job_is_inside_from_its_begin_to_its_end() -> None:
    clock = Clock(5.0)
    busy = BusyTime(clock)
    busy.begin()
    clock.now += 2
    with busy:
        busy.end()
        clock.now += 3

    assert busy.seconds == 5


def test_time_counts_while_somebody_is_inside() -> None:
    clock = Clock(5.0)
    busy = BusyTime(clock)
    with busy:
        clock.now += 3
        assert busy.seconds == 3


def test_shares_add_their_bytes_and_encode_side_by_side() -> None:
    account = Account(Clock(5.0))
    for payload_bytes, seconds in ((10, 2.0), (5, 3.0), (1, 1.0)):
        account.moved(payload_bytes)
        account.encoded(seconds)

    assert account.stages() == Stages(16, encode_seconds=3.0, is_coded=True)


def test_what_goes_as_it_lies_is_not_coded() -> None:
    account = Account(Clock(5.0))
    account.mix()
    account.moved(10)

    assert account.stages() == Stages(10, is_mixed=True)
