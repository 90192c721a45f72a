"""Profiles by name and from files."""

from pathlib import Path

import pytest

from twofold_sim.profiles import (
    Profile,
    ProfileError,
    StepCosts,
    load_built_in_profiles,
    load_profile,
    save_profile,
)

PROFILE = Profile(
    name="mine", source="made up", steps=StepCosts(base_seconds=0.1), kv_capacity_tokens=100
)


def test_a_profile_that_was_saved_is_loaded(tmp_path: Path) -> None:
    save_profile(PROFILE, tmp_path / "mine.json")

    assert load_profile(str(tmp_path / "mine.json")) == PROFILE


def test_every_built_in_profile_is_found_by_its_name() -> None:
    profiles = load_built_in_profiles()

    assert len({profile.name for profile in profiles}) == len(profiles)
    assert [load_profile(profile.name) for profile in profiles] == profiles


def test_dualmap_is_its_papers_figure_and_nothing_else() -> None:
    profile = load_profile("dualmap")

    assert profile.steps == StepCosts(per_prefill_token=0.00016)
    assert profile.kv_capacity_tokens == 1_000_000
    assert profile.request_seconds == 0.0


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ProfileError, match=r"'dualmpa' is no built-in profile \(.*dualmap.*\)"):
        load_profile("dualmpa")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "truncated"),
        ('{"name": "a", "source": "", "steps": {}}', "kv_capacity_tokens"),
        (
            '{"name": "a", "source": "", "steps": {"base": 1}, "kv_capacity_tokens": 9}',
            r"`base` - at `\$.steps`",
        ),
        (
            '{"name": "a", "source": "", "steps": {}, "kv_capacity_tokens": "9"}',
            "kv_capacity_tokens",
        ),
        (
            '{"name": "a", "source": "", "steps": {"base_seconds": -1}, "kv_capacity_tokens": 99}',
            "base_seconds is -1",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)

    with pytest.raises(ProfileError, match=f"bad.json: .*{says}"):
        load_profile(str(path))
