"""What a transport chooses and learns; nothing is coded."""

from typing import cast

import pytest

from twofold_kvtransfer.codecs import Choice, Quality
from twofold_kvtransfer.transports.tcp.accounts import Account
from twofold_kvtransfer.transports.tcp.choosing import Chooser
from twofold_kvtransfer.transports.tcp.compressing import CellCoder, Compression

SIZE = 100_000_000
SLOW, FAST = 1e6, 1e12
SHARE = {"none": 1.0, "int4": 0.28}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def chooser(link_bytes_per_second: float = SLOW) -> Chooser:
    return Chooser(
        Compression(
            coder=cast("CellCoder", None),
            quality=Quality.ROUGH,
            link_bytes_per_second=link_bytes_per_second,
        )
    )


def account_of(choice: Choice, move_seconds: float) -> Account:
    clock = Clock()
    account = Account(clock)
    account.moved(int(SHARE[choice.codec] * choice.size_bytes))
    with account.moving:
        clock.now += move_seconds
    return account


def choose(one: Chooser, size_bytes: int = SIZE) -> Choice:
    choice = one.choose(size_bytes, "host")
    assert choice is not None
    return choice


def test_the_first_guess_of_a_link_decides_until_it_was_measured() -> None:
    assert choose(chooser(SLOW)).codec == "int4"
    assert choose(chooser(FAST)).codec == "none"


def test_a_small_read_is_not_chosen_for() -> None:
    assert chooser().choose((1 << 20) - 1, "host") is None
    assert chooser().choose(1 << 20, "host") is not None


def test_a_fast_link_is_found_though_blocks_were_coded() -> None:
    one = chooser(SLOW)
    choice = choose(one)

    one.learn(choice, account_of(choice, 1e-4), seconds=0.2)

    assert choose(one).codec == "none"


@pytest.mark.parametrize(("seconds", "codec"), [(101.0, "int4"), (1000.0, "none")])
def test_a_link_is_slower_than_believed_only_if_the_transfer_waited_for_it(
    seconds: float, codec: str
) -> None:
    one = chooser(FAST)
    believed = choose(one)
    coded = Choice("int4", 1.0, SIZE, believed.link)

    one.learn(coded, account_of(coded, 100.0), seconds)

    assert choose(one).codec == codec


def test_nothing_is_learned_from_a_transfer_that_went_otherwise_than_chosen() -> None:
    one = chooser(SLOW)
    choice = choose(one)
    account = account_of(choice, 1e-4)
    account.mix()

    one.learn(choice, account, seconds=0.2)

    assert choose(one).codec == "int4"
