"""What belongs into one picture."""

from typing import Any

from twofold_sim.measuring import Record, Served, Slo, measure
from twofold_sim.picturing.scenes import scenes


def record(policy: str = "twofold", qps: float = 7.0, **changes: Any) -> Record:
    served = [Served(number=0, at=0.0, prompt_tokens=10, ttft_seconds=1.0, end_seconds=1.0)]
    values: dict[str, Any] = {"workload": "conversation", "workers": 8, "slo": Slo()} | changes
    return Record(policy=policy, qps=qps, measures=measure(served, Slo()), **values)


def test_policies_loads_and_seeds_are_one_scene() -> None:
    records = [record("b"), record("a", 8.0), record("a", 7.0, seed=2), record("a", 7.0, seed=1)]

    (scene,) = scenes(records)

    assert scene.policies == ["b", "a"]
    assert scene.qps == [7.0, 8.0]
    assert scene.runs("a", 7.0) == records[2:]
    assert scene.run("a", 7.0) == records[3]
    assert scene.run("b", 8.0) is None


def test_whatever_else_differs_makes_another_scene() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"workload": "synthetic-agent"},
        {"workers": 64},
        {"decode_workers": 4},
        {"slo": Slo(ttft_seconds_per_token=0.001)},
        {"setup": {"misprediction": 0.2}},
    ]

    found = scenes(record(**each) for each in changes)

    assert len(found) == len(changes)
    assert len({scene.slug for scene in found}) == len(changes)
    assert len({scene.title for scene in found}) == len(changes)


def test_a_title_says_what_is_not_alike_everywhere() -> None:
    alike = {"cache_tokens": 5, "misprediction": 0.2}
    same, other = scenes([record(setup=alike), record(setup=alike | {"misprediction": 0.0})])

    assert "misprediction 0.2" in same.title
    assert "misprediction 0.0" in other.title
    assert "cache" not in same.title


def test_a_slug_is_fit_for_a_file_name() -> None:
    (scene,) = scenes([record(workload="../My Trace (2)", decode_workers=2)])

    assert scene.slug == "my-trace-2-8-prefill-and-2-decode-workers"
