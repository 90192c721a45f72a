"""The engines behind the workers, and what they are like."""

from collections.abc import Callable, Sequence

import msgspec

from twofold_cluster.identity import WorkerId
from twofold_sim.engine_model import BatchingEngine, EngineCounts, EngineModel
from twofold_sim.profiles import Profile
from twofold_sim.virtual.serial_engine import InstantEngine, SerialEngine
from twofold_sim.virtual.setup import EngineCluster, PrefillPool
from twofold_sim.workloads import BLOCK_TOKENS, Prompt

SINK = WorkerId("sink")
"""Who takes over what a prefill pool alone has computed."""

_SINK_TOKENS = 1_000_000
_POOL_BLOCK_TOKENS = 16
_POOL_MODEL_TOKENS = 131_072


def make_engine(
    cluster: PrefillPool | EngineCluster, worker_id: WorkerId, speed: float
) -> tuple[EngineModel, int, int]:
    """Make an engine. Returns also the tokens that it holds, and those of its blocks."""
    if worker_id == SINK:
        return InstantEngine(), _SINK_TOKENS, _POOL_BLOCK_TOKENS
    if isinstance(cluster, PrefillPool):
        engine = SerialEngine(cluster.seconds_per_token / speed, cluster.cache_tokens)
        return engine, cluster.cache_tokens, _POOL_BLOCK_TOKENS
    profile = at_speed(cluster.profile, speed)
    return BatchingEngine(profile), profile.kv_capacity_tokens, profile.block_tokens


def step_seconds(
    cluster: PrefillPool | EngineCluster, speed: float
) -> Callable[[EngineCounts], float]:
    """Return what tells how long a step that only decodes takes; nobody decodes in a pool."""
    if isinstance(cluster, PrefillPool):
        return lambda counts: 0.0
    profile = cluster.profile

    def seconds(counts: EngineCounts) -> float:
        context_tokens = counts.kv_used_fraction * profile.kv_capacity_tokens
        steps = profile.steps.seconds(
            sequence_count=counts.running, context_tokens=int(context_tokens)
        )
        return steps / speed

    return seconds


def at_speed(profile: Profile, speed: float) -> Profile:
    """Return *profile* as it would be on something *speed* times as fast."""
    if speed == 1.0:
        return profile
    steps = profile.steps
    return msgspec.structs.replace(
        profile,
        steps=msgspec.structs.replace(
            steps,
            base_seconds=steps.base_seconds / speed,
            per_prefill_token=steps.per_prefill_token / speed,
            per_prefill_pair=steps.per_prefill_pair / speed,
            per_sequence=steps.per_sequence / speed,
            per_context_token=steps.per_context_token / speed,
        ),
        request_seconds=profile.request_seconds / speed,
    )


def max_model_tokens(cluster: PrefillPool | EngineCluster) -> int:
    return (
        _POOL_MODEL_TOKENS if isinstance(cluster, PrefillPool) else cluster.profile.max_model_tokens
    )


def answerable(prompt: Prompt, cluster: PrefillPool | EngineCluster) -> Prompt:
    """Return *prompt* with as much of its answer as the workers of *cluster* give: a pool's its
    first token, engines what fits beside it, as vLLM's do."""
    output_tokens = 1
    if not isinstance(cluster, PrefillPool):
        left = max(cluster.profile.context_tokens - prompt.prompt_tokens, 1)
        output_tokens = min(prompt.output_tokens, left)
    if prompt.output_tokens == output_tokens:
        return prompt
    return msgspec.structs.replace(prompt, output_tokens=output_tokens)


def engine_blocks(prompt: Prompt, size: int) -> Sequence[int]:
    """Name the full blocks of *size* tokens of *prompt*: the ids of the workload's blocks stand for
    all that is before, so each is cut into as many, or several are taken for one."""
    full_count = prompt.prompt_tokens // size
    if size >= BLOCK_TOKENS:
        step = size // BLOCK_TOKENS
        return prompt.block_ids[step - 1 :: step][:full_count]
    parts = BLOCK_TOKENS // size
    cut = [block_id * parts + part for block_id in prompt.block_ids for part in range(parts)]
    return cut[:full_count]
