"""The rights that the chart gives the operator are those that it uses: the audit log knows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .control_plane import ControlPlane
from .houses import House
from .kubectl import Kubectl, Manifest
from .operators import rules_of
from .services import adapter, sim, with_lora

Right = tuple[str, str, str]
"""Group, resource with subresource, and verb."""

SELDOM_USED: set[Right] = {
    # Asked for by the admission plugin OwnerReferencesPermissionEnforcement, where it is on, of who
    # writes owner references that block a deletion; no audit log shows what a plugin asks.
    ("serving.twofold.dev", "llmservices/finalizers", "update"),
    # When a service goes while it is reconciled; a test cannot choose that moment.
    ("serving.twofold.dev", "llmservices", "get"),
}
LEFT = (
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("policy/v1", "PodDisruptionBudget"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
)
"""Kinds of which another version of the operator may have made more than this one does."""


def test_the_rights_are_those_that_are_used(
    local_house: House, control_plane: ControlPlane
) -> None:
    house = local_house
    monitored = {"observability": {"serviceMonitor": True, "labels": {"release": "prometheus"}}}
    scaled = {"gateway": {"minReplicas": 1, "maxReplicas": 3}}
    house.make_ready(sim(**monitored, **scaled))
    house.make_ready(sim())
    house.kubectl.apply(*(_left_over(house.service(), *kind) for kind in LEFT))
    house.kubectl.wait_for("what is left over is gone", lambda: not _left(house.kubectl))
    first = house.service()["status"]["revision"]
    house.apply(sim(maxModelLen=4096))
    house.wait_for_rollout(other_than=first)
    house.restart_with("--no-network-policies")
    house.kubectl.wait_for("the policies are gone", lambda: house.has_none("networkpolicy"))
    house.delete()
    house.restart_with()
    house.make_ready(with_lora())
    house.apply(adapter())
    house.kubectl.wait_for(
        "the adapter is loaded", lambda: _has_ready_workers(house.kubectl.get("lora", "sql"))
    )
    house.delete()
    existing = house.make_ready(sim(ray={"address": "ray.example:6379"}))
    house.apply(sim(ray={"address": "ray.example:6379"}, maxModelLen=4096))
    house.wait_for_rollout(other_than=existing["status"]["revision"])
    house.delete()
    with control_plane.lacking("monitoring.coreos.com/v1", "ServiceMonitor"):
        house.restart_with()
        house.make_ready(sim(**monitored))
        assert house.kubectl.get("podmonitor", "sim-router")
        house.delete()
    used = set(used_rights(control_plane.audit_log, house.chart.user))

    given = rules_of(house.chart.roles)
    assert forbidden(control_plane.audit_log, house.chart.user) == set()
    assert used - given == set()
    assert given - used <= SELDOM_USED


def used_rights(log: Path, user: str) -> Iterator[Right]:
    """Yield each right that *user* has used, some of them often."""
    for entry in _entries(log, user):
        right = _right(entry)
        if right is None or entry["responseStatus"]["code"] == 403:
            continue
        yield right
        if right[2] == "patch" and entry["responseStatus"]["code"] == 201:
            yield (*right[:2], "create")  # server-side apply of what was not there


def forbidden(log: Path, user: str) -> set[Right | None]:
    """Return what *user* asked for and was refused."""
    return {
        _right(entry) for entry in _entries(log, user) if entry["responseStatus"]["code"] == 403
    }


def _left_over(service: Manifest, api_version: str, kind: str) -> Manifest:
    """Return a child as an operator would have made it."""
    owner = {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": service["metadata"]["name"],
        "uid": service["metadata"]["uid"],
    }
    labels = {
        "app.kubernetes.io/managed-by": "twofold-operator",
        "app.kubernetes.io/instance": "sim",
    }
    metadata = {"name": "left-over", "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _left(kubectl: Kubectl) -> list[str]:
    return [kind for _, kind in LEFT if kubectl.get(kind, "left-over")]


def _has_ready_workers(adapter: Manifest | None) -> bool:
    return bool((adapter or {}).get("status", {}).get("readyWorkers"))


def _entries(log: Path, user: str) -> Iterator[dict[str, Any]]:
    with log.open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["user"]["username"] == user and "responseStatus" in entry:
                yield entry


def _right(entry: dict[str, Any]) -> Right | None:
    asked = entry.get("objectRef")
    if not isinstance(asked, dict) or "resource" not in asked:
        return None  # discovery, which everybody may
    resource = asked["resource"]
    if "subresource" in asked:
        resource += f"/{asked['subresource']}"
    return asked.get("apiGroup", ""), resource, str(entry["verb"])
