"""The rights that the chart gives the operator are those that it uses: the audit log knows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .control_plane import ControlPlane
from .houses import House
from .kubectl import Manifest
from .operators import rules_of
from .services import adapter, sim, with_lora

Right = tuple[str, str, str]
"""Group, resource with subresource, and verb."""

SELDOM_USED: set[Right] = {
    # Asked for by admission plugins of some clusters, of who writes owner references.
    ("serving.twofold.dev", "llmservices/finalizers", "update"),
    # When somebody changes the finalizers at the same moment.
    ("serving.twofold.dev", "llmservices", "get"),
    # Of a Redis that is no longer the one.
    ("", "secrets", "delete"),
    # Of what another version of the operator has made, and this one does not.
    ("", "configmaps", "delete"),
    ("policy", "poddisruptionbudgets", "delete"),
    # Where there is no ServiceMonitor.
    *(
        ("monitoring.coreos.com", "podmonitors", verb)
        for verb in ("create", "get", "patch", "delete")
    ),
}


def test_the_rights_are_those_that_are_used(
    local_house: House, control_plane: ControlPlane
) -> None:
    house = local_house
    monitored = {"observability": {"serviceMonitor": True, "labels": {"release": "prometheus"}}}
    scaled = {"gateway": {"minReplicas": 1, "maxReplicas": 3}}
    house.make_ready(sim(**monitored, **scaled))
    house.make_ready(sim())
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
