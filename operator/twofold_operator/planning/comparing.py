"""Whether an object is as we applied it, so that a settled operator applies nothing."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from twofold_operator.planning.names import APPLIED_ANNOTATION
from twofold_operator.planning.observed import Manifest
from twofold_operator.resources import WORKER_POOL, parse_quantity

_ITEM_KEYS = ("name", "mountPath", "containerPort", "port", "uid", "type", "topologyKey")
_SCALED = frozenset({WORKER_POOL.kind, "Deployment"})
_AMOUNTS = frozenset({"requests", "limits", "sizeLimit", "maxUnavailable", "averageValue"})


def signed(manifest: Manifest) -> dict[str, Any]:
    """Return *manifest* with a hash of itself: a field that is wanted no longer changes it.

    What others may set as well is not in the hash: replicas of what can be scaled.
    """
    metadata = dict(manifest["metadata"])
    told = {name: part for name, part in metadata.items() if name != "resourceVersion"}
    spec = manifest.get("spec") or {}
    if manifest["kind"] in _SCALED:
        spec = {name: part for name, part in spec.items() if name != "replicas"}
    hashed = msgspec.json.encode(
        {**manifest, "metadata": told, "spec": spec}, order="deterministic"
    )
    digest = hashlib.sha256(hashed).hexdigest()[:16]
    metadata["annotations"] = {**metadata.get("annotations", {}), APPLIED_ANNOTATION: digest}
    return {**manifest, "metadata": metadata}


def is_applied(wanted: Manifest, observed: Manifest | None) -> bool:
    """Tell whether every field of *wanted* is in *observed*, whatever else is there.

    The API server adds defaults, leaves out what is empty and writes amounts in its own way.
    """
    if observed is None:
        return False
    metadata = dict(wanted["metadata"])
    metadata.pop("resourceVersion", None)  # a condition of applying, and nothing that is wanted
    return _holds({**wanted, "metadata": metadata}, observed, is_amount=False)


def _holds(wanted: Any, observed: Any, *, is_amount: bool) -> bool:
    if isinstance(wanted, Mapping):
        if not isinstance(observed, Mapping):
            return not wanted and observed is None
        return all(
            _holds(value, observed.get(name), is_amount=is_amount or name in _AMOUNTS)
            for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return _holds_items(wanted, observed, is_amount)
    if observed is None:
        return not wanted
    return bool(wanted == observed) or (is_amount and _is_same_amount(wanted, observed))


def _holds_items(wanted: list[Any] | tuple[Any, ...], observed: Any, is_amount: bool) -> bool:
    if not isinstance(observed, list | tuple):
        return not wanted and observed is None
    key = _key_of(wanted)
    if key is None:
        return len(wanted) == len(observed) and all(
            _holds(ours, theirs, is_amount=is_amount)
            for ours, theirs in zip(wanted, observed, strict=True)
        )
    return all(
        any(
            _holds(ours, theirs, is_amount=is_amount)
            for theirs in observed
            if isinstance(theirs, Mapping) and theirs.get(key) == ours[key]
        )
        for ours in wanted
    )


def _key_of(items: list[Any] | tuple[Any, ...]) -> str | None:
    """Return what the items of a list of objects are known by; others may stand among them."""
    for key in _ITEM_KEYS:
        if items and all(isinstance(item, Mapping) and key in item for item in items):
            return key
    return None


def _is_same_amount(wanted: Any, observed: Any) -> bool:
    try:
        return parse_quantity(wanted) == parse_quantity(observed)
    except (TypeError, ValueError):
        return False
