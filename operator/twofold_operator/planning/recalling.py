"""What is known of a revision by what it runs on, should the ConfigMap have been deleted."""

from typing import Any

import msgspec

from twofold_operator.planning import names
from twofold_operator.planning.addresses import POOLS_COMPONENT
from twofold_operator.planning.children import ray_cluster
from twofold_operator.planning.memory import Memory, Remembered
from twofold_operator.planning.observed import Manifest, Observed


def recalled(memory: Memory, observed: Observed) -> Memory:
    """Return *memory* with the revisions that run and are not in it."""
    revisions = dict(memory.revisions)
    for home in homes_of(observed):
        revision = revision_on(home)
        if revision and revision not in revisions:
            remembered = _read(home)
            if remembered is not None:
                revisions[revision] = remembered
    return msgspec.structs.replace(memory, revisions=revisions)


def recorded(home: dict[str, Any], remembered: Remembered) -> dict[str, Any]:
    """Return the manifest *home* with what is remembered of its revision, but times and counts."""
    kept = msgspec.structs.replace(
        remembered,
        lacks_since=None,
        most_ready=0,
        active={},
        is_made=False,
        leaves_since=None,
        shortages={},
    )
    text = msgspec.json.encode(kept, order="deterministic").decode()
    metadata = dict(home["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), names.RECORD_ANNOTATION: text}
    return {**home, "metadata": metadata}


def homes_of(observed: Observed) -> list[Manifest]:
    """Return what runs a pool manager: RayClusters, and on an existing Ray its Deployments."""
    return [child for _, child in sorted(observed.children.items()) if _is_home(child)]


def _is_home(child: Manifest) -> bool:
    if child["kind"] == ray_cluster.KIND:
        return True
    labels = child["metadata"].get("labels") or {}
    return child["kind"] == "Deployment" and labels.get(names.COMPONENT_LABEL) == POOLS_COMPONENT


def revision_on(child: Manifest) -> str:
    """Return the revision that a child belongs to; nothing, if it is of the service."""
    return str((child["metadata"].get("labels") or {}).get(names.REVISION_LABEL, ""))


def _read(home: Manifest) -> Remembered | None:
    text = (home["metadata"].get("annotations") or {}).get(names.RECORD_ANNOTATION, "")
    try:
        return msgspec.json.decode(text, type=Remembered)
    except msgspec.DecodeError:
        return None
