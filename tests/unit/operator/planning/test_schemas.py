"""What the operator makes of every example fits Kubernetes' own schemas, the oldest and newest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from kubernetes_validate import validate  # type: ignore[import-untyped]

from twofold_operator.planning.settings import PlanSettings
from twofold_operator.planning.testing import World

EXAMPLES = Path(__file__).parents[4] / "deploy" / "examples"
WRITTEN = {
    (path.stem, each["kind"]): each
    for path in sorted(EXAMPLES.glob("*.yaml"))
    for each in yaml.safe_load_all(path.read_text())
}
OURS = "serving.twofold.dev/"
SETTINGS = PlanSettings(
    redis_url="redis://:pw@redis:6379/0",
    image_pull_secrets=("regcred",),
    scraping_namespaces=("monitoring",),
)
SMALLEST: dict[str, Any] = {"model": {"source": "hf://a/b"}, "prefill": {}, "decode": {}}
REDIS = {"redisAddress": "redis:6379", "redisPasswordSecret": {"name": "s", "key": "k"}}
SPECS: dict[str, dict[str, Any]] = {
    stem: each["spec"] for (stem, kind), each in WRITTEN.items() if kind == "LLMService"
} | {
    "claim": {**SMALLEST, "model": {"source": "pvc://claim/model"}},
    "volume-of-an-image": {**SMALLEST, "model": {"source": "oci://registry.example/model:1"}},
    "ray-on-redis": {**SMALLEST, "ray": {"gcsFaultTolerance": REDIS}},
}
VERSIONS = ("1.29", "1.36")
IMAGE_VOLUMES = "1.31"
"""The oldest Kubernetes whose pods have the field, behind its gate."""


@pytest.mark.parametrize("name", SPECS)
def test_what_is_made_of_a_service_fits_the_schemas(name: str) -> None:
    versions = (IMAGE_VOLUMES, VERSIONS[-1]) if name == "volume-of-an-image" else VERSIONS
    world = World(SPECS[name], settings=SETTINGS)
    world.apis = frozenset({"RayCluster", "ServiceMonitor", "ScrapeConfig"})
    world.settle()
    made = [each for one in world.objects.values() for each in _of_kubernetes(one)]

    kinds = {each["kind"] for each in made}
    assert {"Deployment", "Service", "NetworkPolicy"} <= kinds
    assert ("Pod" in kinds) == ("address" not in SPECS[name].get("ray", {}))
    for version in versions:
        for each in made:
            validate(each, version, strict=True)


@pytest.mark.parametrize(
    "name", [key for key in WRITTEN if not WRITTEN[key]["apiVersion"].startswith(OURS)]
)
def test_what_an_example_has_of_kubernetes_fits_the_schemas(name: tuple[str, str]) -> None:
    for version in VERSIONS:
        validate(WRITTEN[name], version, strict=True)


def _of_kubernetes(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield *made*, or the pods in it, as somebody's who has written them as JSON."""
    plain = msgspec.json.decode(msgspec.json.encode(made))
    if plain["kind"] == "RayCluster":
        spec = plain["spec"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            yield {"apiVersion": "v1", "kind": "Pod", **group["template"]}
    elif plain["kind"] != "Pod" and not plain["apiVersion"].startswith((OURS, "monitoring.")):
        plain.pop("status", None)
        plain["metadata"].pop("ends_at", None)
        yield plain
