"""Which engines go together, and how many of them there is room for."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.planning.layout import Pairing, layouts, pairings
from twofold_sim.profiles import Profile, StepCosts


def on_gpus(gpu_count: int, block_tokens: int = 16) -> Profile:
    return Profile(
        name=f"tp{gpu_count}",
        source="made up",
        steps=StepCosts(base_seconds=0.01),
        kv_capacity_tokens=10_000,
        block_tokens=block_tokens,
        max_batched_tokens=256,
        gpu_count=gpu_count,
    )


def test_a_prefill_engine_is_paired_with_decode_engines_of_a_multiple_of_its_parallelism() -> None:
    found = {str(pairing) for pairing in pairings([on_gpus(2), on_gpus(3), on_gpus(4)], 64)}

    assert found == {
        "both on TP 2 in steps of 256 tokens",
        "both on TP 3 in steps of 256 tokens",
        "both on TP 4 in steps of 256 tokens",
        "prefill on TP 2, decode on TP 2",
        "prefill on TP 2, decode on TP 4",
        "prefill on TP 3, decode on TP 3",
        "prefill on TP 4, decode on TP 4",
    }


def test_engines_with_unequal_blocks_are_not_paired() -> None:
    found = pairings([on_gpus(1), on_gpus(2, block_tokens=32)], 64)

    assert all(pairing.prefill is None or pairing.prefill == pairing.decode for pairing in found)


def test_pairings_that_find_no_room_are_left_out() -> None:
    found = pairings([on_gpus(2), on_gpus(4)], 4)

    assert [str(pairing) for pairing in found] == [
        "both on TP 2 in steps of 256 tokens",
        "both on TP 4 in steps of 256 tokens",
        "prefill on TP 2, decode on TP 2",
    ]


@given(prefill_gpus=st.integers(1, 4), multiple=st.integers(1, 4), gpu_count=st.integers(0, 40))
def test_to_no_layout_a_worker_can_be_added(
    prefill_gpus: int, multiple: int, gpu_count: int
) -> None:
    pairing = Pairing(prefill=on_gpus(prefill_gpus), decode=on_gpus(prefill_gpus * multiple))
    found = layouts(pairing, gpu_count)

    assert bool(found) == (pairing.gpu_count <= gpu_count)
    for layout in found:
        assert min(layout.prefill_count, layout.decode_count) >= 1
        assert 0 <= gpu_count - layout.gpu_count < prefill_gpus
    # Whatever was left out has fewer workers of one phase and no more of the other.
    kept = [(layout.prefill_count, layout.decode_count) for layout in found]
    for prefill_count in range(1, gpu_count // prefill_gpus + 1):
        rest = gpu_count - prefill_count * prefill_gpus
        decode_count = rest // (prefill_gpus * multiple)
        if decode_count:
            assert any(more >= prefill_count and decode >= decode_count for more, decode in kept)


def test_workers_for_both_phases_are_tried_with_shorter_steps_than_their_profile_has() -> None:
    profile = msgspec.structs.replace(on_gpus(2), max_batched_tokens=2048)

    assert [pairing.decode.max_batched_tokens for pairing in pairings([profile], 2)] == [
        2048,
        512,
        256,
    ]


@given(gpus=st.integers(1, 8), gpu_count=st.integers(0, 64))
def test_workers_for_both_phases_have_one_layout(gpus: int, gpu_count: int) -> None:
    found = layouts(Pairing(decode=on_gpus(gpus)), gpu_count)

    assert [layout.decode_count for layout in found] == [gpu_count // gpus][: gpu_count // gpus]


def test_layouts_are_told_from_one_another_by_their_profiles_too() -> None:
    [one] = layouts(Pairing(decode=on_gpus(1)), 1)
    faster = msgspec.structs.replace(on_gpus(1), steps=StepCosts(base_seconds=0.001))
    [other] = layouts(Pairing(decode=faster), 1)

    assert len({one, other}) == 2
