"""What the plan makes, on a real API server: taken, kept as it is, and made once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from twofold_operator.cluster_api import ClusterApi, connect
from twofold_operator.cluster_api.kinds import CHILDREN, RAY_CLUSTERS, Kind, kind_named
from twofold_operator.planning import PlanSettings, plan
from twofold_operator.planning.actions import AddFinalizer, ApplyObject, DeleteObject, SetStatus
from twofold_operator.planning.observed import Observed

from .access import access_of
from .kubectl import Kubectl
from .named import serves_ray

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "examples").glob("*.yaml"))
SMALLEST = next(path for path in EXAMPLES if path.stem == "smallest")
SETTINGS = PlanSettings(redis_url="redis://:secret@redis:6379/0")
ROUNDS = 6

Manifest = dict[str, Any]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_what_is_applied_stays_applied(kubectl: Kubectl, example: Path) -> None:
    """The server writes defaults and amounts in its own way; that is no reason to apply again."""
    kubectl.run("apply", "-f", str(example))
    services = [each for each in _objects(example) if each["kind"] == "LLMService"]
    async with connect(access_of(kubectl.kubeconfig)) as api:
        for service in services:
            rounds = [await _follow(api, kubectl, service["metadata"]["name"])]
            while rounds[-1] and len(rounds) < ROUNDS:
                rounds.append(await _follow(api, kubectl, service["metadata"]["name"]))

            assert rounds[0], "a new service needs objects"
            assert rounds[-1] == []


async def test_an_autoscaler_begins_with_the_routers_that_there_are(kubectl: Kubectl) -> None:
    """What was applied, and is applied no more, the server would set back to its default, 1."""
    (service,) = _objects(SMALLEST)
    name = service["metadata"]["name"]
    scaled = {"minReplicas": 2, "maxReplicas": 8}

    async def routers_with(spec: dict[str, Any]) -> int:
        kubectl.apply({**service, "spec": {**service["spec"], **spec}})
        async with connect(access_of(kubectl.kubeconfig)) as api:
            for _ in range(ROUNDS):
                await _follow(api, kubectl, name)
        deployment = kubectl.get("deployment", f"{name}-router")
        assert deployment is not None
        replicas: int = deployment["spec"]["replicas"]
        return replicas

    assert await routers_with({"gateway": {"replicas": 5}}) == 5
    assert await routers_with({"gateway": scaled}) == 5
    assert await routers_with({"gateway": scaled, "slo": {"ttftMs": 100}}) == 5
    kubectl.run("scale", "deployment", f"{name}-router", "--replicas=7")
    assert await routers_with({"gateway": scaled, "slo": {"ttftMs": 200}}) == 7


async def _follow(api: ClusterApi, kubectl: Kubectl, name: str) -> list[str]:
    """Do what a plan says; return what it wrote."""
    service = kubectl.get("llm", name)
    assert service is not None
    observed = Observed(
        service=service,
        children=await _children(api, kubectl.namespace, has_ray=serves_ray(kubectl)),
        apis=frozenset({"RayCluster"}) if serves_ray(kubectl) else frozenset(),
    )
    written = []
    for action in plan(observed, SETTINGS, now=1_800_000_000.0):
        match action:
            case AddFinalizer():
                change = {"metadata": {"finalizers": ["serving.twofold.dev/operator"]}}
                await api.patch(
                    kind_named(service["apiVersion"], "LLMService"), kubectl.namespace, name, change
                )
            case ApplyObject(manifest):
                await api.apply(manifest)
                written.append(f"{manifest['kind']} {manifest['metadata']['name']}")
            case DeleteObject(reference, _):
                written.append(f"delete {reference.kind} {reference.name}")
            case SetStatus(reference, status):
                written.append(f"status of {reference.kind} {reference.name}")
                metadata = {"name": reference.name, "namespace": kubectl.namespace}
                report = {"apiVersion": reference.api_version, "kind": reference.kind}
                await api.apply(report | {"metadata": metadata, "status": status}, "status")
    return written


async def _children(
    api: ClusterApi, namespace: str, *, has_ray: bool
) -> dict[tuple[str, str], Manifest]:
    kinds: list[Kind] = [*CHILDREN, kind_named("serving.twofold.dev/v1alpha1", "WorkerPool")]
    if has_ray:
        kinds.append(RAY_CLUSTERS)
    lists = await asyncio.gather(*(api.list_all(kind, namespace) for kind in kinds))
    return {(item["kind"], item["metadata"]["name"]): item for items, _ in lists for item in items}


def _objects(path: Path) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]
