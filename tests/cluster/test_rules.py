"""What a real API server takes and refuses by the schemas and rules of the CRDs."""

from collections.abc import Callable
from typing import Any

import pytest

from .kubectl import Kubectl, KubectlError

API_VERSION = "serving.twofold.dev/v1alpha1"

Manifest = dict[str, Any]
Change = Callable[[Manifest], Any]


def service(change: Change = lambda spec: None, name: str = "qwen3-8b") -> Manifest:
    spec: Manifest = {
        "model": {"source": "hf://Qwen/Qwen3-8B"},
        "prefill": {"replicas": 2},
        "decode": {"replicas": 2},
    }
    change(spec)
    return {
        "apiVersion": API_VERSION,
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": spec,
    }


def pool(**spec: Any) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": "qwen3-8b-prefill"},
        "spec": {"serviceName": "qwen3-8b", "role": "prefill", "replicas": 2} | spec,
    }


def adapter(**spec: Any) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "LoRAAdapter",
        "metadata": {"name": "sql"},
        "spec": {"service": "qwen3-8b", "source": "hf://acme/sql"} | spec,
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: None,
        lambda spec: (
            spec["prefill"].update(tensorParallel=2) or spec["decode"].update(tensorParallel=4)
        ),
        lambda spec: spec["prefill"].update(minReplicas=1, maxReplicas=4),
        lambda spec: spec["prefill"].update(replicas=0),
        lambda spec: spec.update(gateway={"minReplicas": 1, "maxReplicas": 3}),
        lambda spec: spec["model"].update(source="/models/qwen3"),
        lambda spec: spec.update(engine="sim", sim={"profile": "smollm2-cpu"}),
    ],
    ids=["smallest", "unequal-tp", "bounds", "no-prefill", "gateway", "path", "sim"],
)
def test_a_service_that_can_be_made_is_accepted(kubectl: Kubectl, change: Change) -> None:
    told = kubectl.apply(service(change), options=("--dry-run=server",))

    assert "created" in told


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda spec: (
                spec["prefill"].update(tensorParallel=4) or spec["decode"].update(tensorParallel=2)
            ),
            "decode.tensorParallel must be a multiple",
        ),
        (
            lambda spec: spec["prefill"].update(minReplicas=3, maxReplicas=2),
            "minReplicas must not be above maxReplicas",
        ),
        (
            lambda spec: spec["prefill"].update(minReplicas=3),
            "minReplicas must not be above replicas",
        ),
        (
            lambda spec: spec["decode"].update(maxReplicas=1),
            "replicas must not be above maxReplicas",
        ),
        (lambda spec: spec["decode"].update(replicas=0), "prefill workers alone answer nothing"),
        (lambda spec: spec["decode"].update(replicas=-1), "spec.decode.replicas"),
        (lambda spec: spec["decode"].update(replicas="two"), "spec.decode.replicas"),
        (lambda spec: spec["model"].update(source="ftp://x/y"), "source must begin with hf://"),
        (
            lambda spec: spec["model"].update(source="/models/x", revision="main"),
            "only a hf:// source has revisions",
        ),
        (lambda spec: spec.pop("model"), "spec.model"),
        (lambda spec: spec.update(gateway={"minReplicas": 1}), "needs both minReplicas"),
        (lambda spec: spec.update(sim={}), "sim has no meaning unless engine is sim"),
        (lambda spec: spec.update(engine="tgi"), "spec.engine"),
    ],
)
def test_a_service_that_cannot_be_made_is_refused(
    kubectl: Kubectl, change: Change, why: str
) -> None:
    with pytest.raises(KubectlError) as refusal:
        kubectl.apply(service(change), options=("--dry-run=server", "--validate=false"))

    assert why in str(refusal.value)


@pytest.mark.parametrize("name", ["a" * 41, "8b", "qwen3.8b"])
def test_a_name_that_no_child_could_bear_is_refused(kubectl: Kubectl, name: str) -> None:
    with pytest.raises(KubectlError, match="the name m"):
        kubectl.apply(service(name=name), options=("--dry-run=server",))


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (pool(), pool(serviceName="other"), "serviceName cannot change"),
        (pool(), pool(role="decode"), "role cannot change"),
        (adapter(), adapter(service="other"), "service cannot change"),
        (adapter(), adapter(name="other"), "name cannot change"),
        (
            service(),
            service(lambda spec: spec.update(engine="sim")),
            "engine cannot change",
        ),
        (
            service(),
            service(lambda spec: spec.update(ray={"address": "ray:6379"})),
            "ray.address cannot change",
        ),
    ],
)
def test_what_may_not_change_is_kept(
    kubectl: Kubectl, before: Manifest, after: Manifest, why: str
) -> None:
    kubectl.apply(before)

    with pytest.raises(KubectlError, match=why):
        kubectl.apply(after)


def test_a_pool_is_scaled_as_anything_is(kubectl: Kubectl) -> None:
    kubectl.apply(pool())

    kubectl.run("scale", "workerpool/qwen3-8b-prefill", "--replicas=5")

    scaled = kubectl.get("wp", "qwen3-8b-prefill")
    assert scaled is not None
    assert scaled["spec"]["replicas"] == 5


def test_defaults_are_filled_in(kubectl: Kubectl) -> None:
    kubectl.apply(service())

    made = kubectl.get("llm", "qwen3-8b")
    assert made is not None
    assert made["spec"]["engine"] == "vllm"
    assert made["spec"]["prefill"]["tensorParallel"] == 1


def test_what_is_applied_again_is_unchanged(kubectl: Kubectl) -> None:
    with_classes = service(lambda spec: spec.update(slo={"classes": [{"name": "batch"}]}))
    kubectl.apply(with_classes)

    assert kubectl.apply(with_classes).endswith(" unchanged\n")


def test_what_no_field_is_for_is_named_to_whoever_types_it(kubectl: Kubectl) -> None:
    with pytest.raises(KubectlError, match="prefil"):
        kubectl.apply(service(lambda spec: spec.update(prefil={})))
