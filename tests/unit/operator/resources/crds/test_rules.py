from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from twofold_operator.resources import API_VERSION, InvalidSpecError, parse_service
from twofold_operator.resources.crds.rules import RULES

Admit = Callable[..., list[str]]


def _object(kind: str, name: str = "qwen", /, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _service(name: str = "qwen", **spec: Any) -> dict[str, Any]:
    least = {"model": {"source": "hf://a/b"}, "prefill": {}, "decode": {}}
    return _object("LLMService", name, **{**least, **spec})


REFUSED = [
    (_service("a" * 41), "the name may have 40 characters"),
    (_service("8b"), "the name must begin with a letter"),
    (_service("a.b"), "the name must begin with a letter"),
    (
        _service(prefill={"tensorParallel": 2}, decode={"tensorParallel": 3}),
        "decode.tensorParallel must be a multiple",
    ),
    (_service(prefill={"tensorParallel": 2}), "decode.tensorParallel must be a multiple"),
    (_service(decode={"replicas": 0}), "prefill workers alone answer nothing"),
    (_service(sim={}), "sim has no meaning unless engine is sim"),
    (_service(model={"source": "Qwen/Qwen3-8B"}), "source must begin with hf://"),
    (_service(model={"source": "/a", "revision": "b"}), "only a hf:// source has revisions"),
    (
        _service(decode={"minReplicas": 3, "maxReplicas": 2}),
        "minReplicas must not be above maxReplicas",
    ),
    (_service(decode={"minReplicas": 3, "replicas": 2}), "minReplicas must not be above replicas"),
    (_service(decode={"replicas": 3, "maxReplicas": 2}), "replicas must not be above maxReplicas"),
    (_service(slo={"classes": [{"name": "default"}]}), "default is told by slo itself"),
    (_service(gateway={"minReplicas": 3}), "an autoscaler needs both"),
    (_service(ray={"authSecret": {"name": "ray", "key": "token"}}), "it needs ray.address"),
    (
        _service(ray={"address": "ray:6379", "gcsFaultTolerance": {"redisAddress": "redis:6379"}}),
        "it goes without ray.address",
    ),
    (
        _service(gateway={"minReplicas": 3, "maxReplicas": 2}),
        "minReplicas must not be above maxReplicas",
    ),
]

ADMITTED = [
    _service(),
    _service("a" * 40),
    _service(prefill={"tensorParallel": 2}, decode={"tensorParallel": 4}),
    _service(prefill={"replicas": 0}, decode={"replicas": 0}),
    _service(prefill={"minReplicas": 1, "replicas": 2, "maxReplicas": 2}),
    _service(prefill={"minReplicas": 2, "maxReplicas": 2}),
    _service(engine="sim", sim={}),
    _service(slo={"classes": [{"name": "batch", "priority": -1}]}),
    _service(model={"source": "/models/a"}),
    _service(model={"source": "hf://a/b", "revision": "main"}),
    _service(gateway={"minReplicas": 2, "maxReplicas": 2}),
    _service(ray={"gcsFaultTolerance": {"redisAddress": "rediss://redis:6379"}}),
    _service(ray={"address": "[fd00::7]:6379"}),
    _service(ray={"address": "head:6379", "authSecret": {"name": "ray", "key": "token"}}),
]


@pytest.mark.parametrize(("manifest", "message"), REFUSED)
def test_a_rule_refuses_what_cannot_be(
    admit: Admit, manifest: dict[str, Any], message: str
) -> None:
    refusals = admit(manifest)

    assert len(refusals) == 1
    assert message in refusals[0]


@pytest.mark.parametrize("manifest", [manifest for manifest, _ in REFUSED])
def test_the_operator_refuses_what_a_rule_does(manifest: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpecError):
        parse_service(manifest)


@pytest.mark.parametrize("manifest", ADMITTED)
def test_what_can_be_made_breaks_no_rule(admit: Admit, manifest: dict[str, Any]) -> None:
    parse_service(manifest)

    assert admit(manifest) == []


_POOL = _object("WorkerPool", serviceName="a", role="prefill", replicas=1)
_ADAPTER = _object("LoRAAdapter", service="a", source="hf://a/b")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (_service(), _service(engine="sim"), "engine cannot change"),
        (_service(), _service(ray={"address": "ray:6379"}), "ray.address cannot change"),
        (_service(ray={"address": "ray:6379"}), _service(ray={}), "ray.address cannot change"),
        (
            _service(ray={"address": "ray:6379"}),
            _service(ray={"address": "other:6379"}),
            "ray.address cannot change",
        ),
        (
            _POOL,
            _object("WorkerPool", serviceName="b", role="prefill", replicas=1),
            "serviceName cannot change",
        ),
        (
            _POOL,
            _object("WorkerPool", serviceName="a", role="decode", replicas=1),
            "role cannot change",
        ),
        (
            _ADAPTER,
            _object("LoRAAdapter", service="b", source="hf://a/b"),
            "service cannot change",
        ),
        (
            _ADAPTER,
            _object("LoRAAdapter", service="a", source="hf://a/b", name="c"),
            "name cannot change",
        ),
    ],
)
def test_what_an_object_is_cannot_change(
    admit: Admit, old: dict[str, Any], new: dict[str, Any], message: str
) -> None:
    assert admit(old) == admit(new) == []

    refusals = admit(new, old)

    assert len(refusals) == 1
    assert message in refusals[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (_service(), _service(engine="vllm", prefill={"replicas": 4})),
        (
            _service(ray={"address": "ray:6379"}),
            _service(ray={"address": "ray:6379"}, decode={"replicas": 2}),
        ),
        (_POOL, _object("WorkerPool", serviceName="a", role="prefill", replicas=5)),
        (_ADAPTER, _object("LoRAAdapter", service="a", source="hf://a/c")),
    ],
)
def test_all_else_may_change(admit: Admit, old: dict[str, Any], new: dict[str, Any]) -> None:
    assert admit(new, old) == []


def test_an_adapter_comes_from_where_an_engine_can_load_it(admit: Admit) -> None:
    [refusal] = admit(_object("LoRAAdapter", service="a", source="pvc://claim/path"))

    assert "source must begin with hf:// or be" in refusal


def test_each_rule_blames_a_field_that_there_is() -> None:
    fields = {
        (part, rule.field): {field.encode_name for field in msgspec.structs.fields(part)}
        for part, rules in RULES.items()
        for rule in rules
        if rule.field is not None
    }

    assert len(fields) > 10
    for (part, path), names in fields.items():
        assert path is not None
        assert path.split(".")[1] in names, (part, path)
