from typing import Any

import pytest

from twofold_operator.resources import InvalidSpecError, parse_service

MODEL = {"source": "hf://Qwen/Qwen3-8B"}


def _parse(name: str = "qwen", **spec: Any) -> None:
    whole = {"model": MODEL, "prefill": {}, "decode": {}, **spec}
    parse_service({"metadata": {"name": name}, "spec": whole})


def _gpus(count: object, **pool: Any) -> dict[str, Any]:
    return {"resources": {"limits": {"nvidia.com/gpu": count}}, **pool}


@pytest.mark.parametrize(
    "spec",
    [
        {"prefill": {"tensorParallel": 2}, "decode": {"tensorParallel": 4}},
        {"prefill": {"replicas": 0}, "decode": {"replicas": 0}},
        {"prefill": {"replicas": 0}},
        {"prefill": {"minReplicas": 2, "maxReplicas": 2}},
        {"prefill": _gpus(0, tensorParallel=1)},
        {"prefill": _gpus("2", tensorParallel=2), "decode": {"tensorParallel": 2}},
        {"decode": {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 1}}}},
        {"model": {**MODEL, "engineArgs": ["--max-num-seqs", "64", "--model-impl=vllm"]}},
        {"engine": "sim", "sim": {"args": ["--speed", "2"]}},
        {"images": {"worker": "registry.local:5000/twofold/worker:1@sha256:" + "a" * 64}},
        {"transfer": {"connector": "twofold", "transport": "tcp", "compression": "int8"}},
        {"rollout": {"maxSurge": 1}},
        {"rollout": {"maxSurge": "1%"}},
        {"gateway": {"minReplicas": 2, "maxReplicas": 2}},
        {"decode": {"podTemplate": {"spec": {"containers": [{"name": "worker"}]}}}},
        {"decode": {"podTemplate": {"spec": {"hostNetwork": False}}}},
        {"gateway": {"podTemplate": {"spec": {"hostNetwork": True}}}},
    ],
)
def test_what_can_be_made_is_let_through(spec: dict[str, Any]) -> None:
    _parse(**spec)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": {**MODEL, "engineArgs": ["-q", "--port=1"]}}, "spec.model.engineArgs[1]"),
        ({"model": {"source": "/models/a", "revision": "main"}}, "spec.model.revision"),
        ({"model": {"source": "ftp://a/b"}}, "spec.model.source"),
        ({"sim": {}}, "spec.sim"),
        ({"engine": "sim", "sim": {"args": ["--redis=x"]}}, "spec.sim.args[0]"),
        (
            {"engine": "sim", "model": {**MODEL, "engineArgs": ["--speed=2"]}},
            "spec.model.engineArgs",
        ),
        ({"images": {"router": "not an image"}}, "spec.images.router"),
        ({"transfer": {"connector": "mooncake"}}, "spec.transfer.connector"),
        ({"transfer": {"compression": "int8"}}, "spec.transfer.compression"),
        (
            {"transfer": {"connector": "twofold", "compression": "int8"}},
            "spec.transfer.compression",
        ),
        (
            {"prefill": {"tensorParallel": 2}, "decode": {"tensorParallel": 3}},
            "spec.decode.tensorParallel",
        ),
        ({"decode": {"replicas": 0}}, "spec.decode.replicas"),
        ({"decode": {"minReplicas": 3, "maxReplicas": 2}}, "spec.decode.minReplicas"),
        ({"decode": {"replicas": 1, "minReplicas": 2}}, "spec.decode.replicas"),
        ({"decode": {"replicas": 3, "maxReplicas": 2}}, "spec.decode.replicas"),
        ({"decode": _gpus(2)}, "spec.decode.resources.limits[nvidia.com/gpu]"),
        ({"decode": _gpus("500m")}, "spec.decode.resources.limits[nvidia.com/gpu]"),
        (
            {"decode": {"resources": {"requests": {"nvidia.com/gpu": 1}}}},
            "spec.decode.resources.requests",
        ),
        (
            {"prefill": {"resources": {"limits": {"cpu": "much"}}}},
            "spec.prefill.resources.limits[cpu]",
        ),
        (
            {"prefill": {"resources": {"limits": {"cpu": "-1"}}}},
            "spec.prefill.resources.limits[cpu]",
        ),
        (
            {"gateway": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "2G"}}}},
            "spec.gateway.resources.requests[memory]",
        ),
        ({"ray": {"headPodTemplate": {"status": {}}}}, "spec.ray.headPodTemplate.status"),
        (
            {"ray": {"headPodTemplate": {"spec": {"hostNetwork": True}}}},
            "spec.ray.headPodTemplate.spec.hostNetwork",
        ),
        (
            {"prefill": {"podTemplate": {"spec": {"hostNetwork": True}}}},
            "spec.prefill.podTemplate.spec.hostNetwork",
        ),
        (
            {"ray": {"address": "a:1", "gcsFaultTolerance": {"redisAddress": "b:2"}}},
            "spec.ray.gcsFaultTolerance",
        ),
        ({"decode": {"podTemplate": {"spec": []}}}, "spec.decode.podTemplate.spec"),
        (
            {"decode": {"podTemplate": {"spec": {"containers": {}}}}},
            "spec.decode.podTemplate.spec.containers",
        ),
        (
            {"gateway": {"podTemplate": {"spec": {"volumes": [{}]}}}},
            "spec.gateway.podTemplate.spec.volumes[0].name",
        ),
        ({"slo": {"classes": [{"name": "default"}]}}, "spec.slo.classes[0].name"),
        ({"slo": {"classes": [{"name": "a"}, {"name": "a"}]}}, "spec.slo.classes[1].name"),
        ({"gateway": {"minReplicas": 2}}, "spec.gateway"),
        ({"gateway": {"minReplicas": 3, "maxReplicas": 2}}, "spec.gateway.minReplicas"),
        ({"rollout": {"maxSurge": 0}}, "spec.rollout.maxSurge"),
        ({"rollout": {"maxSurge": "101%"}}, "spec.rollout.maxSurge"),
        ({"rollout": {"maxSurge": "half"}}, "spec.rollout.maxSurge"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        _parse(**spec)

    assert caught.value.field == field


@pytest.mark.parametrize("host", ["ray.example", "10.0.0.7", "[fd00::7]"])
def test_a_place_of_rays_is_a_host_and_a_port(host: str) -> None:
    _parse(ray={"address": f"{host}:6379"})
    for scheme in ("", "redis://", "rediss://"):
        _parse(ray={"gcsFaultTolerance": {"redisAddress": f"{scheme}{host}:6379"}})


@pytest.mark.parametrize("place", ["fd00::7:6379", "[fd00::7]", "[ray]:6379", "ray:", "a b:1"])
def test_another_place_of_rays_is_refused(place: str) -> None:
    with pytest.raises(InvalidSpecError, match=r"^spec\.ray\.address: "):
        _parse(ray={"address": place})


@pytest.mark.parametrize("name", ["a" * 41, "8b", "a.b", "a-", "A"])
def test_a_name_that_children_could_not_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpecError, match=r"^metadata\.name: "):
        _parse(name)


def test_the_longest_name_is_let_through() -> None:
    _parse("a" * 40)
