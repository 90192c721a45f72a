import pytest

from twofold_operator.resources import Rollout


@pytest.mark.parametrize(
    ("surge", "replicas", "more"),
    [
        ("100%", 4, 4),
        ("25%", 4, 1),
        ("25%", 5, 2),
        ("1%", 1, 1),
        ("50%", 0, 1),
        (3, 1, 3),
    ],
)
def test_a_surge_is_a_number_or_a_share_rounded_up(
    surge: int | str, replicas: int, more: int
) -> None:
    assert Rollout(max_surge=surge).surge(replicas) == more
