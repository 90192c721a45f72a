"""Which Redis the routers follow: those that run know the one that they started with."""

from collections.abc import Mapping
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.children import pods, router
from twofold_operator.planning.conditions import seconds
from twofold_operator.planning.observed import Manifest, Observed

_ENDED = ("Failed", "Succeeded")


def followed_secrets(observed: Observed, now: float) -> frozenset[str]:
    """Return the names of the Secrets with the URLs that routers have which may serve still."""
    return frozenset(
        secret
        for child in observed.children.values()
        if child["kind"] == "Pod" and _is_router(child) and not _has_ended(child, now)
        for secret in (secret_of(child["spec"]),)
        if secret is not None
    )


def secret_of(pod: Mapping[str, Any]) -> str | None:
    """Return the name of the Secret that a pod's spec has the URL of Redis from."""
    for container in pod.get("containers") or ():
        for variable in container.get("env") or ():
            if variable["name"] == pods.REDIS_URL:
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
                return reference.get("name")
    return None


def _is_router(pod: Manifest) -> bool:
    return (pod["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL) == router.COMPONENT


def _has_ended(pod: Manifest, now: float) -> bool:
    """Tell whether a pod has ended, or had all the time that it may take to."""
    ends_at = pod["metadata"].get("deletionTimestamp")
    if ends_at is not None and seconds(ends_at) < now:
        return True
    return (pod.get("status") or {}).get("phase") in _ENDED
