"""Colours and dashes."""

from twofold_sim.picturing.styles import KNOWN, styles
from twofold_sim.policies import ABLATIONS, SIM_POLICIES


def test_every_policy_has_a_style_of_its_own() -> None:
    names = {**SIM_POLICIES, **ABLATIONS}

    assert KNOWN.keys() >= names.keys()
    assert len(set(KNOWN.values())) == len(KNOWN)


def test_a_policy_looks_alike_whoever_is_beside_it() -> None:
    assert styles(["twofold", "preble"])["preble"] == styles(["preble", "x", "a"])["preble"]


def test_unknown_policies_get_styles_of_their_own() -> None:
    names = [f"new {number}" for number in range(14)]
    found = styles(["twofold", *names])

    assert len(set(found.values())) == 15
    assert styles(reversed(names)) == styles(names)
