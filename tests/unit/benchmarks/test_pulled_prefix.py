from benchmarks.pulled_prefix import CACHED, COMPUTED, PROMPT_TOKENS, PULLED, Sample, goals, render


def samples(pulled_seconds: float, pulled_tokens: int = 128) -> list[Sample]:
    """Two rounds of each length; the second takes twice as long."""
    return [
        Sample(tokens, way, number, (number + 1) * seconds, pulled_tokens if way in PULLED else 0)
        for number in range(2)
        for tokens in PROMPT_TOKENS
        for way, seconds in {
            COMPUTED: 2.0,
            CACHED: 0.5,
            **dict.fromkeys(PULLED, pulled_seconds),
        }.items()
    ]


def test_pulls_are_held_against_computing_in_the_same_round() -> None:
    assert {goal.figure for goal in goals(samples(1.0))} == {0.5}
    assert all(goal.met for goal in goals(samples(1.0)))
    assert not any(goal.met for goal in goals(samples(2.5)))


def test_prefixes_that_were_named_in_vain_are_told() -> None:
    count = 2 * len(PROMPT_TOKENS) * len(PULLED)

    assert f"Of {count} prefixes 0 were not pulled." in render(samples(1.0))
    assert f"Of {count} prefixes {count} were not pulled." in render(samples(1.0, 0))
