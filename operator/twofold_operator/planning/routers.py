"""How far the routers are with what they were told last, as ``kubectl rollout status`` sees it."""

from collections.abc import Iterable
from dataclasses import replace

from twofold_operator.planning.actions import Action, ApplyObject
from twofold_operator.planning.names import APPLIED_ANNOTATION, router_name
from twofold_operator.planning.observed import Manifest, Observed


def foreseen(observed: Observed, actions: Iterable[Action]) -> Observed:
    """Return *observed* with the routers' Deployment of the generation that *actions* make it.

    What its status says of the one before is no answer to a change that is only being made.
    """
    key = "Deployment", router_name(observed.service["metadata"]["name"])
    before = observed.children.get(key)
    told = (a.manifest for a in actions if isinstance(a, ApplyObject))
    wanted = next((m for m in told if (m["kind"], m["metadata"]["name"]) == key), None)
    if before is None or wanted is None or _making(before) == _making(wanted):
        return observed
    metadata = dict(before["metadata"])
    metadata["generation"] = metadata.get("generation", 0) + 1
    return replace(observed, children={**observed.children, key: {**before, "metadata": metadata}})


def are_available(deployment: Manifest | None) -> bool:
    """Tell whether some router takes requests, of whatever making."""
    return bool(_status(deployment).get("availableReplicas"))


def what_is_left(deployment: Manifest | None) -> str | None:
    """Return what the routers' rollout lacks; None when all are as they were told to be.

    One that is lost later is no rollout.
    """
    if deployment is None:
        return "the routers' Deployment is not there yet"
    status = _status(deployment)
    if not _is_seen(deployment):
        return "the routers' Deployment is changed, and Kubernetes has not begun with it"
    wanted = deployment["spec"].get("replicas", 1)
    updated = status.get("updatedReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} routers are of the newest making"
    if (others := status.get("replicas", 0) - updated) > 0:
        return f"{others} routers of an older making are there still"
    available = status.get("availableReplicas", 0)
    if available < updated and _progress(deployment).get("reason") != "NewReplicaSetAvailable":
        return f"{available} of {updated} routers are ready"
    return None


def are_stuck(deployment: Manifest | None) -> bool:
    """Tell whether Kubernetes calls the rollout overdue. It goes on as soon as it can."""
    progress = _progress(deployment)
    return _is_seen(deployment) and progress.get("reason") == "ProgressDeadlineExceeded"


def _making(deployment: Manifest) -> tuple[str | None, int | None]:
    """Return what we apply of it, in short: not what others write into it time and again."""
    annotations = deployment["metadata"].get("annotations") or {}
    return annotations.get(APPLIED_ANNOTATION), deployment["spec"].get("replicas")


def _is_seen(deployment: Manifest | None) -> bool:
    """Tell whether the status is of the spec that there is."""
    generation = 0 if deployment is None else deployment["metadata"].get("generation", 0)
    return bool(_status(deployment).get("observedGeneration", 0) >= generation)


def _progress(deployment: Manifest | None) -> Manifest:
    conditions = _status(deployment).get("conditions") or ()
    return next((each for each in conditions if each["type"] == "Progressing"), {})


def _status(deployment: Manifest | None) -> Manifest:
    return (deployment or {}).get("status") or {}
