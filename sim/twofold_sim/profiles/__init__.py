"""What engines cost, from published measurements and from measuring one."""

from twofold_sim.profiles.loading import (
    ProfileError,
    load_built_in_profiles,
    load_profile,
    save_profile,
)
from twofold_sim.profiles.profile import Profile, StepCosts, TransferCosts

__all__ = [
    "Profile",
    "ProfileError",
    "StepCosts",
    "TransferCosts",
    "load_built_in_profiles",
    "load_profile",
    "save_profile",
]
