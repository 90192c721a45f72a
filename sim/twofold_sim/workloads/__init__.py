"""Requests to try a cluster on."""

from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt

__all__ = ["BLOCK_TOKENS", "Prompt"]
