"""An engine whose times can be worked out by hand, and requests for it."""

from benchmarks.simulated_serving import Request

from twofold_sim.profiles import Profile, StepCosts, TransferCosts

PROFILE = Profile(
    name="any",
    source="",
    steps=StepCosts(per_prefill_token=0.01, per_sequence=0.1),
    transfer=TransferCosts(latency_seconds=1.0),
    kv_capacity_tokens=100_000,
)


def request(at: float, prompt_tokens: int, output_tokens: int) -> Request:
    return Request(at, prompt_tokens, output_tokens, 0.0, 0.0)
