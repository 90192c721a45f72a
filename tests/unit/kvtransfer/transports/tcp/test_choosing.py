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


def chooser(link_bytes_per_second: float = FAST) -> Chooser:
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


def after_none(bytes_per_second: float) -> Chooser:
    """Return one that has seen a link of *bytes_per_second*, and nothing coded."""
    one = chooser()
    choice = choose(one)
    assert choice.codec == "none"
    seconds = SIZE / bytes_per_second
    one.learn(choice, stages_of(choice, seconds), seconds)
    return one


def choose(one: Chooser, size_bytes: int = SIZE) -> Choice:
    choice = one.choose(size_bytes, "host")
    assert choice is not None
    return choice


def test_a_link_that_was_not_measured_may_be_faster_than_it_is_taken_for() -> None:
    slow_enough = 400e6

    assert choose(chooser(slow_enough)).codec == "none"
    assert choose(after_none(slow_enough)).codec == "int4"


def test_the_first_guess_of_a_link_decides_until_it_was_measured() -> None:
    assert choose(chooser(SLOW)).codec == "int4"
    assert choose(chooser(FAST)).codec == "none"


def test_a_small_read_is_not_chosen_for() -> None:
    assert chooser().choose((1 << 20) - 1, "host") is None
    assert chooser().choose(1 << 20, "host") is not None


def test_a_fast_link_is_found_though_blocks_were_coded() -> None:
    one = after_none(SLOW)
    choice = choose(one)

    one.learn(choice, stages_of(choice, 1e-4), seconds=0.2)

    assert choose(one).codec == "none"


def test_a_link_is_not_faster_than_believed_if_its_payloads_waited_to_be_decoded() -> None:
    one = after_none(SLOW)
    choice = choose(one)
    held_up = replace(stages_of(choice, 1e-4), held_up_seconds=100.0)

    for _ in range(3):
        one.learn(choice, held_up, seconds=120.0)

    assert choose(one).predicted_seconds == pytest.approx(SIZE / SLOW)


def test_a_link_is_at_least_as_fast_as_payloads_came_waits_for_decoders_included() -> None:
    one = after_none(SLOW)
    choice = choose(one)
    held_up = replace(stages_of(choice, 1e-4), held_up_seconds=1e-4)

    for _ in range(3):
        one.learn(choice, held_up, seconds=0.2)

    came = held_up.payload_bytes / 2e-4
    assert choose(one).predicted_seconds == pytest.approx(SIZE / came)


def test_a_transfer_that_took_what_its_link_is_believed_to_take_raises_no_doubt() -> None:
    one = after_none(SLOW)
    choice = choose(one)
    waited_a_little = replace(stages_of(choice, 20.0), held_up_seconds=6.0)

    one.learn(choice, waited_a_little, seconds=30.0)

    assert choose(one).codec == "int4"


def test_what_a_peer_says_of_its_encoding_is_believed_up_to_what_all_took() -> None:
    one, other = after_none(SLOW), after_none(SLOW)
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
    one = after_none(FAST)
    believed = choose(one)
    coded = Choice("int4", 1.0, SIZE, believed.link)

    for _ in range(3):
        one.learn(coded, stages_of(coded, 100.0), seconds)

    assert choose(one).codec == codec


def test_what_waited_for_its_codec_took_that_with_all_hand_overs() -> None:
    one, other = after_none(SLOW), after_none(SLOW)
    for each, encode_seconds in ((one, 20.0), (other, 40.0)):
        choice = choose(each)
        coded = replace(stages_of(choice, 1.0), encode_seconds=encode_seconds, decode_seconds=1.0)
        each.learn(choice, coded, seconds=60.0)
        none = Choice("none", 1.0, SIZE, choice.link)
        each.learn(none, stages_of(none, 100.0), seconds=100.0)

    assert choose(one).codec == choose(other).codec == "int4"
    assert choose(one).predicted_seconds == pytest.approx(60.0, rel=0.01)
    assert choose(other).predicted_seconds == pytest.approx(60.0, rel=0.01)


def test_nothing_is_learned_from_a_transfer_that_went_otherwise_than_chosen() -> None:
    one = after_none(SLOW)
    choice = choose(one)

    one.learn(choice, replace(stages_of(choice, 1e-4), is_mixed=True), seconds=0.2)

    assert choose(one).codec == "int4"
