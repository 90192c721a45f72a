"""The engine that computes prompts; it refuses at once when it is busy."""

from twofold_prefill_worker.admission import ROLE

__all__ = ["ROLE"]
