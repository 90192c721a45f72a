import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.codecs import (
    DEFAULT_COSTS,
    QUALITY,
    Choice,
    CodecCost,
    CodecName,
    Controller,
    ControllerSettings,
    Link,
    Measured,
    Quality,
)

GBIT = 1e9 / 8
SIZE = 200_000_000
FAST = Link("fast", 100 * GBIT, 5e-5)
SLOW = Link("slow", 1 * GBIT, 5e-4)
ROUGH = ControllerSettings(quality=Quality.ROUGH, assumed_load=1.0)
"""Whose assumptions are the world of ``really``."""

SIZES = st.integers(1, 10**11)
QUALITIES = st.sampled_from(Quality)
LINKS = st.builds(Link, st.sampled_from("abc"), st.floats(1e4, 1e12), st.floats(0, 1))
SECONDS = st.floats(0, 1e5)
MEASUREMENTS = st.builds(
    Measured,
    payload_bytes=SIZES,
    move_seconds=SECONDS,
    encode_seconds=SECONDS,
    decode_seconds=SECONDS,
)


def really(
    choice: Choice, bytes_per_second: float, slower: float = 1.0, noise: float = 1.0
) -> Measured:
    """Return what a transfer takes in a world where coding is *slower* times what is assumed."""
    cost = DEFAULT_COSTS[choice.codec]
    payload_bytes = int(choice.size_bytes * cost.payload_share)

    def coding(seconds_per_byte: float) -> float:
        return noise * slower * (cost.fixed_seconds + choice.size_bytes * seconds_per_byte)

    return Measured(
        payload_bytes=payload_bytes,
        move_seconds=choice.link.latency_seconds + noise * payload_bytes / bytes_per_second,
        encode_seconds=coding(cost.encode_seconds_per_byte),
        decode_seconds=coding(cost.decode_seconds_per_byte),
    )


def total(measured: Measured) -> float:
    assert measured.move_seconds is not None
    return measured.encode_seconds + measured.move_seconds + measured.decode_seconds


def run(
    controller: Controller,
    link: Link,
    count: int,
    world: Callable[[Choice], Measured],
) -> list[CodecName]:
    chosen = []
    for _ in range(count):
        choice = controller.choose(SIZE, link)
        controller.learn(choice, world(choice))
        chosen.append(choice.codec)
    return chosen


def test_nothing_is_coded_on_a_fast_link() -> None:
    controller = Controller(ROUGH)

    assert set(run(controller, FAST, 300, lambda choice: really(choice, 100 * GBIT))) == {"none"}


@pytest.mark.parametrize(
    ("quality", "codec"),
    [(Quality.ROUGH, "int4"), (Quality.FAIR, "fp8"), (Quality.CLOSE, "int8")],
)
def test_the_smallest_within_the_bound_goes_over_a_slow_link(
    quality: Quality, codec: CodecName
) -> None:
    controller = Controller(replace(ROUGH, quality=quality))

    assert controller.choose(SIZE, SLOW).codec == codec


def test_a_transfer_too_small_to_gain_is_not_coded() -> None:
    assert Controller(ROUGH).choose(1000, SLOW).codec == "none"


@given(QUALITIES, st.lists(st.tuples(SIZES, LINKS, MEASUREMENTS), max_size=80))
def test_the_quality_bound_is_kept_whatever_is_measured(
    quality: Quality, transfers: list[tuple[int, Link, Measured]]
) -> None:
    controller = Controller(ControllerSettings(quality=quality, try_every=3))
    for size_bytes, link, measured in transfers:
        choice = controller.choose(size_bytes, link)
        controller.learn(choice, measured)

        assert QUALITY[choice.codec] >= quality


@given(QUALITIES, st.lists(st.tuples(SIZES, LINKS, MEASUREMENTS), max_size=80))
def test_the_choice_is_never_predicted_slower_than_none(
    quality: Quality, transfers: list[tuple[int, Link, Measured]]
) -> None:
    settings = ControllerSettings(quality=quality, try_every=1000)
    controller = Controller(settings)
    for size_bytes, link, measured in transfers:
        choice = controller.choose(size_bytes, link)

        assert choice.predicted_seconds <= controller.predict("none", size_bytes, link)
        controller.learn(choice, measured)


@given(st.floats(0.3, 200), st.floats(0.5, 4), st.integers(0, 2**32), QUALITIES)
def test_over_time_it_is_not_slower_than_none(
    gbit: float, slower: float, seed: int, quality: Quality
) -> None:
    controller = Controller(ControllerSettings(quality=quality))
    link = Link("any", 10 * GBIT, 1e-4)
    noise = random.Random(seed)
    for _ in range(30):  # to learn in
        choice = controller.choose(SIZE, link)
        controller.learn(choice, really(choice, gbit * GBIT, slower))

    taken = with_none = 0.0
    for _ in range(192):
        choice = controller.choose(SIZE, link)
        factor = noise.uniform(0.9, 1.1)
        measured = really(choice, gbit * GBIT, slower, factor)
        controller.learn(choice, measured)
        taken += total(measured)
        with_none += total(really(replace(choice, codec="none"), gbit * GBIT, slower, factor))

    assert taken <= 1.03 * with_none


@pytest.mark.parametrize(("before", "after"), [(100.0, 1.0), (1.0, 100.0), (25.0, 0.5)])
def test_a_new_bandwidth_is_followed_within_three_transfers(before: float, after: float) -> None:
    controller = Controller(ROUGH)
    link = Link("changing", before * GBIT, 1e-4)
    run(controller, link, 20, lambda choice: really(choice, before * GBIT))

    run(controller, link, 3, lambda choice: really(choice, after * GBIT))
    choice = controller.choose(SIZE, link)

    assert choice.codec == ("int4" if after < 10 else "none")
    assert choice.predicted_seconds == pytest.approx(total(really(choice, after * GBIT)), rel=0.05)


@given(
    st.floats(0.5, 100),
    st.floats(0.001, 1000),
    st.sampled_from(["payload_bytes", "move_seconds", "encode_seconds", "decode_seconds"]),
)
def test_an_outlier_does_not_flip_the_choice(gbit: float, factor: float, what: str) -> None:
    controller = Controller(ROUGH)
    link = Link("steady", gbit * GBIT, 1e-4)
    before = run(controller, link, 20, lambda choice: really(choice, gbit * GBIT))[-1]

    choice = controller.choose(SIZE, link)
    usual = really(choice, gbit * GBIT)
    if not 1 / 1.6 < factor < 1.6:  # else it is none
        odd = replace(usual, **{what: type(getattr(usual, what))(getattr(usual, what) * factor)})
        controller.learn(choice, odd)

    assert controller.choose(SIZE, link).codec == before


def test_it_does_not_flap_where_two_are_alike() -> None:
    costs: dict[CodecName, CodecCost] = {
        "none": CodecCost(0.0, 0.0, 0.0, 1.0),
        "int8": CodecCost(0.25e-9, 0.25e-9, 0.0, 0.5),
    }
    link = Link("even", 1e9, 0.0)  # where both take the same
    controller = Controller(replace(ROUGH, try_every=1000), costs)
    noise = random.Random(11)
    chosen = []
    for _ in range(400):
        choice = controller.choose(SIZE, link)
        chosen.append(choice.codec)
        cost = costs[choice.codec]
        moving = SIZE * cost.payload_share / (1e9 * noise.uniform(0.97, 1.03))
        coding = SIZE * cost.encode_seconds_per_byte
        controller.learn(
            choice,
            Measured(
                payload_bytes=int(SIZE * cost.payload_share),
                move_seconds=moving,
                encode_seconds=coding,
                decode_seconds=coding,
            ),
        )

    changes = sum(one != other for one, other in itertools.pairwise(chosen))
    assert changes <= 2


def test_a_codec_is_left_for_none_without_waiting_for_a_gain() -> None:
    costs: dict[CodecName, CodecCost] = {
        "none": CodecCost(0.0, 0.0, 0.0, 1.0),
        "int8": CodecCost(0.25e-9, 0.25e-9, 0.0, 0.5),
    }
    link = Link("quickening", 0.8e9)
    controller = Controller(replace(ROUGH, try_every=1000), costs)

    for _ in range(30):
        choice = controller.choose(SIZE, link)
        assert choice.predicted_seconds <= controller.predict("none", SIZE, link)
        half = SIZE // 2 if choice.codec == "int8" else SIZE
        coding = 0.25e-9 * SIZE
        moving = half / 1.02e9  # where int8 is 1 % slower
        controller.learn(
            choice,
            Measured(
                payload_bytes=half,
                move_seconds=moving,
                encode_seconds=coding,
                decode_seconds=coding,
            ),
        )

    assert controller.choose(SIZE, link).codec == "none"


def test_a_codec_that_turns_out_slow_is_left() -> None:
    controller = Controller(ROUGH)

    chosen = run(controller, SLOW, 100, lambda choice: really(choice, 1 * GBIT, slower=40))

    assert set(chosen[-20:]) == {"none"}


def test_a_codec_that_was_slow_once_is_tried_again_but_rarely() -> None:
    controller = Controller(replace(ROUGH, quality=Quality.FAIR))

    def world(choice: Choice) -> Measured:
        return really(choice, 1 * GBIT, slower=1.5 if choice.codec == "fp8" else 1.0)

    for codec in ("none", "int8", "lossless"):
        choice = Choice(codec, 1.0, SIZE, SLOW)
        controller.learn(choice, world(choice))
    chosen = run(controller, SLOW, 640, world)

    assert chosen[0] == "fp8"
    assert 1 <= chosen[1:].count("fp8") <= 640 / 128
    assert chosen[1:].count("int8") > 600


def test_a_codec_is_found_again_when_an_overload_has_ended() -> None:
    controller = Controller(replace(ROUGH, chunk_bytes=1 << 20))
    link = Link("steady", 5 * GBIT)

    def overloaded(choice: Choice) -> Measured:
        usual = really(choice, 5 * GBIT)
        return replace(usual, encode_seconds=8 * usual.encode_seconds)

    before = run(controller, link, 20, lambda choice: really(choice, 5 * GBIT))
    meanwhile = run(controller, link, 100, overloaded)
    after = run(controller, link, 4000, lambda choice: really(choice, 5 * GBIT))

    assert set(before) == {"int4"}
    assert set(meanwhile[-50:]) == {"none"}
    assert after[-1] != "none"


@pytest.mark.parametrize("gbit", [5, 10, 40])
@pytest.mark.parametrize("slower", [8, 30])
def test_while_cores_stay_slow_trying_costs_little(gbit: float, slower: float) -> None:
    controller = Controller(ControllerSettings(quality=Quality.ROUGH, chunk_bytes=1 << 20))
    link = Link("steady", gbit * GBIT)
    run(controller, link, 2000, lambda choice: really(choice, gbit * GBIT, slower))

    taken = with_none = worst = 0.0
    for _ in range(20_000):
        choice = controller.choose(SIZE, link)
        measured = really(choice, gbit * GBIT, slower)
        controller.learn(choice, measured)
        # Side by side, as chunks are.
        seconds = max(measured.encode_seconds, measured.move_seconds or 0, measured.decode_seconds)
        usual = SIZE / (gbit * GBIT)
        taken, with_none, worst = taken + seconds, with_none + usual, max(worst, seconds / usual)

    assert taken <= 1.03 * with_none
    assert worst <= ControllerSettings().try_at_most


def test_links_are_told_apart() -> None:
    controller = Controller(ROUGH)
    run(controller, FAST, 10, lambda choice: really(choice, 0.5 * GBIT))

    assert controller.choose(SIZE, FAST).codec == "int4"
    assert controller.choose(SIZE, replace(FAST, name="other")).codec == "none"


def test_the_links_that_are_remembered_are_bounded() -> None:
    controller = Controller(replace(ROUGH, link_count=2))
    run(controller, FAST, 10, lambda choice: really(choice, 0.5 * GBIT))
    for name in ("one", "other"):
        controller.choose(SIZE, replace(FAST, name=name))

    assert controller.choose(SIZE, FAST).codec == "none"


def test_a_transfer_ruled_by_latency_says_nothing_of_the_bandwidth() -> None:
    controller = Controller(ROUGH)
    link = Link("far", 10 * GBIT, 0.1)
    for _ in range(10):
        choice = controller.choose(1000, link)
        controller.learn(choice, Measured(payload_bytes=1000, move_seconds=0.13))

    expected = 0.1 + SIZE / (10 * GBIT)
    assert controller.predict("none", SIZE, link) == pytest.approx(expected)


def test_slow_cores_are_learned_from_one_codec_for_all() -> None:
    controller = Controller(ROUGH)

    chosen = run(controller, SLOW, 20, lambda c: really(c, 1 * GBIT, slower=30))

    assert len([codec for codec in chosen if codec != "none"]) <= 3


def test_the_first_transfer_of_a_link_tells_how_fast_it_is() -> None:
    controller = Controller(ROUGH)
    guessed = Link("guessed", 100 * GBIT)

    chosen = run(controller, guessed, 2, lambda c: really(c, 1 * GBIT))

    assert chosen == ["none", "int4"]


def test_a_small_transfer_does_not_tell_how_slow_a_large_one_is() -> None:
    controller = Controller(ROUGH)
    choice = controller.choose(SIZE // 10, SLOW)
    controller.learn(choice, really(choice, 1 * GBIT))

    assert controller.choose(SIZE // 10, SLOW).codec == "int4"
    assert controller.choose(SIZE, SLOW).codec == "none"


def test_until_coding_was_measured_cores_are_taken_to_have_other_work() -> None:
    hopeful, careful = (
        Controller(replace(ROUGH, assumed_load=load, chunk_bytes=1 << 20)) for load in (1.0, 4.0)
    )
    link = Link("5 Gbit/s", 5 * GBIT)

    assert hopeful.choose(SIZE, link).codec == "int4"
    assert careful.choose(SIZE, link).codec == "none"


def test_a_codec_whose_times_vary_is_taken_for_slower() -> None:
    controller = Controller(ROUGH)
    usual = controller.predict("int4", SIZE, FAST)
    choice = Choice("int4", 1.0, SIZE, FAST)
    controller.learn(choice, really(choice, 100 * GBIT))
    assert controller.predict("int4", SIZE, FAST) == pytest.approx(usual)

    for slower in (1.25, 0.8, 1.25, 0.8):
        controller.learn(choice, really(choice, 100 * GBIT, slower))

    assert controller.predict("int4", SIZE, FAST) > 1.1 * usual


def waiting_for_codecs(choice: Choice, gbit: float) -> Measured:
    """As ``really``, of a transfer of which the link is not seen if it is coded."""
    measured = really(choice, gbit * GBIT)
    if choice.codec == "none":
        return measured
    return replace(measured, move_seconds=None, is_link_bound=False)


def test_once_a_coded_transfer_does_not_wait_for_its_link_none_tells_how_fast_that_is() -> None:
    controller = Controller(ROUGH)
    link = Link("quickening", 1 * GBIT)
    run(controller, link, 50, lambda choice: really(choice, 1 * GBIT))

    chosen = run(controller, link, 20, lambda choice: waiting_for_codecs(choice, 100))

    assert chosen == ["int4"] + 19 * ["none"]


def test_a_link_that_gets_faster_soon_after_a_try_in_vain_is_seen_soon() -> None:
    controller = Controller(replace(ROUGH, chunk_bytes=1 << 20))
    link = Link("quickening", 1 * GBIT)
    run(controller, link, 20, lambda choice: really(choice, 1 * GBIT))
    vain = run(controller, link, 3, lambda choice: waiting_for_codecs(choice, 1))

    chosen = run(controller, link, 20, lambda choice: waiting_for_codecs(choice, 25))

    assert vain.count("none") == 1
    assert chosen[3:] == 17 * ["none"]


@pytest.mark.parametrize("gbit", [5, 10])
def test_tries_of_none_in_vain_cost_their_share_and_not_much_less(gbit: float) -> None:
    settings = replace(ROUGH, none_share=0.02, chunk_bytes=1 << 20)
    controller = Controller(settings)
    link = Link("steady", gbit * GBIT)
    chosen = run(controller, link, 1000, lambda choice: waiting_for_codecs(choice, gbit))

    coded = controller.predict("int4", SIZE, link)
    excess = controller.predict("none", SIZE, link) - coded
    tries = chosen[300:].count("none")  # the first come sooner
    assert 0.5 <= tries * excess / (0.02 * 700 * coded) <= 1.1


def test_a_transfer_that_waited_for_codecs_says_nothing_of_the_link() -> None:
    controller = Controller(ROUGH)
    before = controller.believed(SLOW)
    choice = controller.choose(SIZE, SLOW)

    controller.learn(choice, replace(really(choice, 1 * GBIT), move_seconds=None))

    assert controller.believed(SLOW) == before


def test_in_chunks_a_transfer_takes_its_longest_stage_and_a_chunk_of_the_others() -> None:
    whole = Controller(ROUGH)
    cut = Controller(replace(ROUGH, chunk_bytes=SIZE // 100))
    cost = DEFAULT_COSTS["int8"]
    encode = cost.fixed_seconds + SIZE * cost.encode_seconds_per_byte
    decode = cost.fixed_seconds + SIZE * cost.decode_seconds_per_byte
    move = SIZE * cost.payload_share / SLOW.bytes_per_second

    assert whole.predict("int8", SIZE, SLOW) == pytest.approx(
        SLOW.latency_seconds + encode + move + decode
    )
    assert cut.predict("int8", SIZE, SLOW) == pytest.approx(
        SLOW.latency_seconds + move + (encode + decode) / 100
    )
    assert cut.predict("none", SIZE, SLOW) == pytest.approx(whole.predict("none", SIZE, SLOW))
