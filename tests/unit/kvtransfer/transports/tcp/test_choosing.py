"""What a transport chooses and learns; nothing is coded."""

from dataclasses import replace
from typing import cast

import pytest

from twofold_kvtransfer.codecs import Choice, Quality
from twofold_kvtransfer.transports.tcp.accounts import Stages
from twofold_kvtransfer.transports.tcp.choosing import Chooser
from twofold_kvtransfer.transports.tcp.compressing import CellCoder, Compression

SIZE = 100_000_000
SLOW, FAST = 1e6, 1e12
SHARE = {"none": 1.0, "int4": 0.28}


def chooser(link_bytes_per_second: float = SLOW) -> Chooser:
    return Chooser(
        Compression(
            coder=cast("CellCoder", None),
            quality=Quality.ROUGH,
            link_bytes_per_second=link_bytes_per_second,
        )
    )


def stages_of(choice: Choice, move_seconds: float) -> Stages:
    payload_bytes = int(SHARE[choice.codec] * choice.size_bytes)
    return Stages(payload_bytes, move_seconds=move_seconds)


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

    one.learn(choice, stages_of(choice, 1e-4), seconds=0.2)

    assert choose(one).codec == "none"


def test_a_link_is_not_faster_than_believed_if_its_payloads_waited_to_be_decoded() -> None:
    one = chooser(SLOW)
    choice = choose(one)
    held_up = replace(stages_of(choice, 1e-4), held_up_seconds=100.0)

    one.learn(choice, held_up, seconds=120.0)

    assert choose(one).codec == "int4"


def test_a_link_is_at_least_as_fast_as_payloads_came_waits_for_decoders_included() -> None:
    one = chooser(SLOW)
    choice = choose(one)
    held_up = replace(stages_of(choice, 1e-4), held_up_seconds=1e-4)

    one.learn(choice, held_up, seconds=0.2)

    assert choose(one).codec == "none"


def test_what_a_peer_says_of_its_encoding_is_believed_up_to_what_all_took() -> None:
    one, other = chooser(SLOW), chooser(SLOW)
    for each, encode_seconds in ((one, 1e9), (other, 30.0)):
        for _ in range(3):
            coded = choose(each)
            stages = replace(stages_of(coded, 28.0), encode_seconds=encode_seconds)
            each.learn(coded, stages, seconds=30.0)

    assert choose(one) == choose(other)


@pytest.mark.parametrize(("seconds", "codec"), [(101.0, "int4"), (1000.0, "none")])
def test_a_link_is_slower_than_believed_only_if_the_transfer_waited_for_it(
    seconds: float, codec: str
) -> None:
    one = chooser(FAST)
    believed = choose(one)
    coded = Choice("int4", 1.0, SIZE, believed.link)

    one.learn(coded, stages_of(coded, 100.0), seconds)

    assert choose(one).codec == codec


def test_nothing_is_learned_from_a_transfer_that_went_otherwise_than_chosen() -> None:
    one = chooser(SLOW)
    choice = choose(one)

    one.learn(choice, replace(stages_of(choice, 1e-4), is_mixed=True), seconds=0.2)

    assert choose(one).codec == "int4"
