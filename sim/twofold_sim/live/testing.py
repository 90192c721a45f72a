"""What tests of live engines stand on: an engine so quick that nobody waits for it."""

from typing import Any

from twofold_sim.live.settings import EngineSettings
from twofold_sim.profiles import Profile, StepCosts, TransferCosts

QUICK = Profile(
    name="quick",
    source="made up for tests: some twenty times as fast as any engine",
    steps=StepCosts(base_seconds=0.001, per_prefill_token=1e-6),
    transfer=TransferCosts(latency_seconds=0.001),
    kv_capacity_tokens=32_000,
    block_tokens=16,
    max_model_tokens=8192,
)


def quick_engine(**settings: Any) -> EngineSettings:
    """Return the settings of a quick engine that ends at once, with others as given."""
    given: dict[str, Any] = {"profile": QUICK, "model": "quick", "drain_seconds": 0.05, **settings}
    return EngineSettings(**given)
