"""What engines are like."""

import pytest

from twofold_sim.profiles import Profile, StepCosts
from twofold_sim.virtual import EngineCluster, InvalidSetupError
from twofold_sim.virtual.engines import at_speed, engine_blocks
from twofold_sim.workloads import Prompt

PROMPT = Prompt(at=0.0, prompt_tokens=1300, output_tokens=1, block_ids=(7, 8, 9))
SHARES_TWO = Prompt(at=0.0, prompt_tokens=1300, output_tokens=1, block_ids=(7, 8, 10))


def make_profile(block_tokens: int = 16) -> Profile:
    steps = StepCosts(
        base_seconds=0.02, per_prefill_token=0.002, per_sequence=0.004, hidden_prefill_tokens=64
    )
    return Profile(
        name="p",
        source="made up",
        steps=steps,
        kv_capacity_tokens=10_000,
        block_tokens=block_tokens,
        request_seconds=0.006,
    )


@pytest.mark.parametrize(("size", "count", "shared"), [(16, 81, 64), (256, 5, 4), (512, 2, 2)])
def test_prompts_share_as_many_engine_blocks_as_their_own_blocks_hold(
    size: int, count: int, shared: int
) -> None:
    blocks, others = engine_blocks(PROMPT, size), engine_blocks(SHARES_TWO, size)

    assert len(blocks) == len(set(blocks)) == count
    assert len(set(blocks) & set(others)) == shared
    assert blocks[:shared] == others[:shared]


def test_a_large_engine_block_is_known_by_the_last_of_those_in_it() -> None:
    assert list(engine_blocks(PROMPT, 1024)) == [8]


def test_engine_blocks_that_cannot_be_made_of_a_workloads_are_refused() -> None:
    with pytest.raises(InvalidSetupError, match="blocks of 48 tokens"):
        EngineCluster(profile=make_profile(48), both=1)


def test_twice_the_speed_halves_the_seconds_and_nothing_else() -> None:
    fast = at_speed(make_profile(), 2.0)

    assert fast.steps == StepCosts(
        base_seconds=0.01, per_prefill_token=0.001, per_sequence=0.002, hidden_prefill_tokens=64
    )
    assert (fast.request_seconds, fast.kv_capacity_tokens) == (0.003, 10_000)
