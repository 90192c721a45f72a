from twofold_engine.load import LoadMeter
from twofold_engine.roles import InFlight


def test_the_load_is_that_of_the_last_step() -> None:
    meter = LoadMeter()

    meter.step(3, 1, 0.123456)
    load = meter.load(InFlight(4, 2))

    assert (load.running_count, load.waiting_count, load.unprefilled_count) == (3, 1, 2)
    assert load.kv_used_fraction == 0.123
    assert load.seconds_per_prefill_token is None


def test_one_slow_prefill_does_not_change_the_pace() -> None:
    meter = LoadMeter()
    for _ in range(5):
        meter.prefilled(seconds=0.2, computed_tokens=100)

    meter.prefilled(seconds=60.0, computed_tokens=100)

    assert meter.load(InFlight()).seconds_per_prefill_token == 0.002


def test_a_prefill_that_was_nearly_all_cached_measures_nothing() -> None:
    meter = LoadMeter()

    meter.prefilled(seconds=0.05, computed_tokens=1)

    assert meter.load(InFlight()).seconds_per_prefill_token is None
