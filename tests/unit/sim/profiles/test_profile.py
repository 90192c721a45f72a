"""What a profile may be."""

from typing import Any

import msgspec
import pytest

from twofold_sim.profiles import Profile, StepCosts, TransferCosts


def profile(**fields: Any) -> Profile:
    defaults: dict[str, Any] = {
        "name": "any",
        "source": "",
        "steps": StepCosts(),
        "kv_capacity_tokens": 1000,
    }
    return Profile(**(defaults | fields))


def test_a_step_costs_what_it_computes() -> None:
    costs = StepCosts(
        base_seconds=1.0,
        per_prefill_token=0.1,
        per_prefill_pair=0.01,
        per_sequence=0.5,
        per_context_token=0.001,
    )

    seconds = costs.seconds(
        prefill_tokens=10, prefill_pairs=55, sequence_count=4, context_tokens=100
    )

    assert seconds == pytest.approx(1.0 + 1.0 + 0.55 + 2.0 + 0.1)


def test_hidden_tokens_take_no_time_and_give_none_back() -> None:
    costs = StepCosts(base_seconds=1.0, per_prefill_token=0.1, hidden_prefill_tokens=8)

    assert costs.seconds(5) == 1.0
    assert costs.seconds(10) == pytest.approx(1.2)


@pytest.mark.parametrize(
    "fields",
    [
        {"kv_capacity_tokens": 0},
        {"kv_capacity_tokens": 15},
        {"block_tokens": 0},
        {"max_batched_tokens": 0},
        {"max_sequences": 0},
        {"max_model_tokens": 0},
        {"gpu_count": 0},
        {"request_seconds": -0.1},
        {"request_seconds": float("nan")},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        profile(**fields)


@pytest.mark.parametrize("name", StepCosts.__struct_fields__)
def test_no_step_costs_less_than_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        StepCosts(**{name: -1})


@pytest.mark.parametrize("name", TransferCosts.__struct_fields__)
def test_no_transfer_costs_less_than_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TransferCosts(**{name: float("inf")})


def test_a_profile_is_refused_also_when_it_comes_as_json() -> None:
    encoded = msgspec.json.encode(profile()).replace(b"1000", b"-1")

    with pytest.raises(msgspec.ValidationError, match="kv_capacity_tokens"):
        msgspec.json.decode(encoded, type=Profile)
