"""What requests teach when they are over."""

import pytest

from twofold_cluster.identity import Role
from twofold_cluster.legs import prefix_source
from twofold_router.placement.accounts import Account
from twofold_router.placement.holdings import Holding
from twofold_router.placement.interface import Outcome, PromptUsage
from twofold_router.placement.learning import learn_outcome, learn_prompt
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_router.testing import make_worker

KEY = make_key("a", "b", "c", "d")


def holding(computed_at: Account, decode: Account | None = None) -> Holding:
    return Holding(make_waiting(key=KEY), computed_at, decode or computed_at)


def test_both_workers_hold_what_one_computed_and_the_other_fetched() -> None:
    prefill, decode = make_account("p"), make_account("d", Role.DECODE)

    computed = learn_prompt(holding(prefill, decode), PromptUsage(2048, 0), 0.4)

    assert computed == 2048
    assert len(prefill.mirror) == len(decode.mirror) == 4


def test_fewer_cached_tokens_than_predicted_correct_the_mirror() -> None:
    at = make_account()
    at.mirror.hold(make_key("older"), 512)
    at.mirror.hold(KEY, 2048)

    computed = learn_prompt(holding(at), PromptUsage(2048, 512), 0.1)

    assert computed == 1536
    assert at.mirror.cached_tokens(make_key("older", 1)) == 0
    assert at.mirror.cached_tokens(KEY) > 0  # it was computed just now


def test_as_many_cached_tokens_as_predicted_correct_nothing() -> None:
    at = make_account()
    at.mirror.hold(make_key("older"), 512)
    at.mirror.hold(make_key("a", "b"), 1024)

    learn_prompt(holding(at), PromptUsage(2048, 1024), 0.1)

    assert at.mirror.cached_tokens(make_key("older", 1)) == 512


def test_bytes_per_token_are_learned_from_the_engines_count() -> None:
    at = make_account()

    learn_prompt(holding(at), PromptUsage(4096), 0.4)

    assert at.statistics.bytes_per_token.tokens(KEY.size_bytes) == 4096


def test_without_usage_the_prediction_stands_and_teaches_no_sizes_or_speeds() -> None:
    at = make_account()
    before = at.speed.seconds_per_token

    computed = [learn_prompt(holding(at), None, 9.0) for _ in range(5)]

    assert computed == [2048, 16, 16, 16, 16]
    assert at.mirror.cached_tokens(KEY) == 2048 - 16
    assert at.speed.seconds_per_token == before


def test_speed_is_that_of_the_tokens_computed() -> None:
    at = make_account()

    for _ in range(3):
        learn_prompt(holding(at), PromptUsage(2048, 1024), 0.5)

    assert at.speed.seconds_per_token == pytest.approx(0.5 / 1024)


def test_an_answer_teaches_its_length_and_the_time_per_token() -> None:
    at = make_account("d", Role.DECODE)
    for now in range(2_000):
        learn_outcome(holding(at), Outcome(output_tokens=11, decode_seconds=1.0), float(now))

    assert at.statistics.output_lengths.predict(None) == pytest.approx(11)
    assert at.step_times.predict(0, 0.0, 2_000.0) == pytest.approx(0.1, rel=0.05)


def test_a_first_token_teaches_how_late_it_was() -> None:
    at = make_account("d", Role.DECODE)
    for _ in range(20):
        held = holding(at)
        held.ttft_seconds = 0.5
        learn_outcome(held, Outcome(output_tokens=1, ttft_seconds=0.75), 0.0)
        learn_outcome(held, Outcome(output_tokens=1), 0.0)

    assert at.statistics.lateness.seconds == 0.25


def test_one_token_takes_no_time_from_the_first_to_the_last() -> None:
    at = make_account("d", Role.DECODE)
    before = at.step_times.predict(1, 0.0, 0.0)

    for _ in range(10):
        learn_outcome(holding(at), Outcome(output_tokens=1, decode_seconds=5.0), 0.0)

    assert at.step_times.predict(1, 0.0, 0.0) == before


def with_source(computed_at: Account, tokens: int = 1536) -> Holding:
    """Make the holding of somebody whose prefill worker was told of a source."""
    made = holding(computed_at, make_account("d", Role.DECODE))
    source = make_worker("s", Role.PREFILL, side_channel="s.example:1")
    made.prefix_source = prefix_source(source, tokens, 0.001)
    assert made.prefix_source is not None
    return made


def test_a_pull_teaches_what_a_fetched_token_takes_and_not_what_a_computed_one_does() -> None:
    at = make_account()
    before = at.speed.seconds_per_token

    computed = [
        learn_prompt(with_source(at), PromptUsage(2048, 1536, 1536, 0.3), 9.0) for _ in range(5)
    ]

    assert computed == [512] * 5
    assert at.pull_speed.seconds_per_token == pytest.approx(0.3 / 1536)
    assert at.speed.seconds_per_token == before


def test_how_long_a_pull_was_tried_in_vain_is_no_time_of_computing() -> None:
    at = make_account()
    before = at.speed.seconds_per_token

    for _ in range(9):
        learn_prompt(with_source(at), PromptUsage(2048, 0), 9.0)

    assert at.speed.seconds_per_token == before


def test_what_was_fetched_was_not_in_the_cache() -> None:
    at = make_account()
    at.mirror.hold(make_key("older"), 512)
    at.mirror.hold(KEY, 2048)

    learn_prompt(with_source(at), PromptUsage(2048, 2032, 1536, 0.3), 0.1)

    assert at.mirror.cached_tokens(make_key("older", 1)) == 0


def test_what_was_fetched_is_not_computed_where_the_engine_tells_of_no_cache() -> None:
    at = make_account()

    assert learn_prompt(with_source(at), PromptUsage(2048, None, 1536, 0.3), 0.1) == 512


@pytest.mark.parametrize(
    ("cached_tokens", "is_declined"), [(None, False), (0, True), (1520, True), (1536, False)]
)
def test_a_source_that_was_of_no_use_makes_fetching_as_dear_as_computing(
    cached_tokens: int | None, is_declined: bool
) -> None:
    at = make_account()
    at.speed.announce(0.001)
    at.pull_speed.observe(0.1, 1000)

    for _ in range(3):
        learn_prompt(with_source(at), PromptUsage(2048, cached_tokens), None)

    assert at.pull_speed.seconds_per_token == (0.001 if is_declined else 0.0001)
