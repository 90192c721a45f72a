from pathlib import Path

from benchmarks.systems import twofold, vllm_router

PORTS = [1, 2, 3, 4]


def test_engines_that_do_both_are_all_named_so() -> None:
    ours = twofold("aggregated").command_line(PORTS, 9)
    theirs = vllm_router(Path("r"), "round_robin", "aggregated").command_line(PORTS, 9)

    assert ours[-2:] == ["--worker", "both=http://127.0.0.1:4"]
    assert ours.count("--worker") == 4
    assert theirs[-5:] == ["--worker-urls", *(f"http://127.0.0.1:{port}" for port in PORTS)]


def test_half_of_the_engines_prefill_when_the_phases_are_apart() -> None:
    ours = twofold("disaggregated").command_line(PORTS, 9)
    theirs = vllm_router(Path("r"), "round_robin", "disaggregated").command_line(PORTS, 9)

    roles = [word.partition("=")[0] for word in ours[-8:] if word != "--worker"]
    assert roles == ["prefill", "prefill", "decode", "decode"]
    assert theirs[-4:] == ["--decode", "http://127.0.0.1:3", "--decode", "http://127.0.0.1:4"]
    assert theirs.count("--prefill") == 2
    assert "--vllm-pd-disaggregation" in theirs
