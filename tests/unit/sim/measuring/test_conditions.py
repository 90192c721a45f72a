"""What runs were made under."""

from twofold_sim.measuring import Slo
from twofold_sim.measuring.conditions import Conditions, differences, slo_text


def conditions(**setup: float) -> Conditions:
    return Conditions("w", 8, 0, Slo(), tuple(sorted(setup.items())))


def test_an_slo_is_said_in_full() -> None:
    slo = Slo(ttft_seconds=2.0, ttft_seconds_per_token=0.0005, tpot_seconds=0.05)

    assert slo_text(Slo()) == "TTFT within 5 s"
    assert slo_text(slo) == (
        "TTFT within 2 s and 0.5 ms for each token of the prompt, TPOT within 50 ms"
    )


def test_workers_of_two_pools_are_told_apart() -> None:
    assert conditions().workers_text() == "8 workers"
    pair = conditions()._replace(decode_workers=4)
    assert pair.workers_text() == "8 prefill and 4 decode workers"


def test_only_what_is_not_alike_everywhere_is_said() -> None:
    several = [
        conditions(cache_tokens=5, misprediction=0.2),
        conditions(cache_tokens=5, misprediction=0.0),
        conditions(cache_tokens=5),
    ]

    assert differences(several) == ["misprediction 0.2", "misprediction 0.0", ""]
    assert differences(several[:1]) == [""]
