from pathlib import Path

from benchmarks.live_comparison import stretch, vllm_router_for
from benchmarks.sim_engines import SimEngines

from twofold_sim.workloads import Prompt

ENGINES = SimEngines(ports=[1, 2, 3, 4], event_ports=[11, 12, 13, 14])
PROMPTS = [
    Prompt(at=float(at), prompt_tokens=512, output_tokens=1, block_ids=(at,)) for at in range(10)
]


def flags_of(policy: str, mode: str) -> str:
    assert mode in ("aggregated", "disaggregated")
    _, flags = vllm_router_for(policy, mode, Path("r"), ENGINES)  # type: ignore[arg-type]
    return " ".join(flags)


def test_rounds_have_stretches_one_after_the_other() -> None:
    rounds = [[prompt.block_ids[0] for prompt in stretch(PROMPTS, 4, n)] for n in range(3)]

    assert rounds == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert stretch(PROMPTS, 4, 1)[0].at == 0.0


def test_kv_aware_reads_the_events_of_each_engine_that_prefills() -> None:
    both = flags_of("kv_aware", "aggregated")
    apart = flags_of("kv_aware", "disaggregated")

    assert both.count("--kv-event-source") == 4
    assert "--kv-event-source http://127.0.0.1:2=tcp://127.0.0.1:12" in both
    assert apart.count("--pd-kv-events") == 2
    assert "--pd-kv-events http://127.0.0.1:2=tcp://127.0.0.1:12" in apart


def test_a_policy_by_prefixes_leaves_decoding_to_one_by_load() -> None:
    assert "--decode-policy power_of_two" in flags_of("cache_aware", "disaggregated")
    assert flags_of("cache_aware", "aggregated") == ""
    assert flags_of("consistent_hash", "disaggregated") == ""
