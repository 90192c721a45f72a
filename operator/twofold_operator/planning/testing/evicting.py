"""Evictions in a cluster in memory, as the API server and its disruption controller decide them."""

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


def is_ready(pod: Object) -> bool:
    """Tell whether *pod* counts as healthy."""
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def may_evict(objects: Iterable[Object], pod: Object) -> bool:
    """Tell whether the budgets with ``minAvailable`` among *objects* let *pod* go."""
    children = list(objects)
    kept = [one for one in children if _is_budget(one) and _selects(one, pod)]
    assert len(kept) <= 1, "the API server evicts no pod of two budgets"
    if not kept:
        return True
    if not is_ready(pod) and kept[0]["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    pods = [one for one in children if one["kind"] == "Pod" and _selects(kept[0], one)]
    healthy = sum(map(is_ready, pods))
    return bool(healthy - 1 >= kept[0]["spec"]["minAvailable"])


def _is_budget(child: Object) -> bool:
    return child["kind"] == "PodDisruptionBudget" and "minAvailable" in child["spec"]


def _selects(budget: Object, pod: Object) -> bool:
    labels = budget["spec"]["selector"]["matchLabels"]
    return bool(labels.items() <= pod["metadata"]["labels"].items())
