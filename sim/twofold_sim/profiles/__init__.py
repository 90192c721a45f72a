"""What engines cost, from published measurements and from measuring one."""

from twofold_sim.profiles.profile import Profile, StepCosts, TransferCosts

__all__ = ["Profile", "StepCosts", "TransferCosts"]
