"""A pod template of the user's, merged over ours as kubectl merges patches.

Of what may be of one kind only, as a volume or a probe, theirs takes the place of ours when it is
of another kind: both together the API server refuses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twofold_operator.resources import MERGE_KEYS

_HANDLERS = frozenset({"exec", "grpc", "httpGet", "sleep", "tcpSocket"})
_KINDS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _HANDLERS),
    **dict.fromkeys(("postStart", "preStop"), _HANDLERS),
    "env": frozenset({"value", "valueFrom"}),
}
"""Fields of which one may be set (core/v1)."""
_COMMON: Mapping[str, str] = {"volumes": "name", "valueFrom": ""}
"""What has one field only, whichever, beside this one."""


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Return *theirs* over *ours*. What is null there goes; a list without keys is replaced."""
    result = dict(ours)
    for name, value in theirs.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged_value(name, ours.get(name), value)
    return result


def _merged_value(name: str, ours: Any, theirs: Any) -> Any:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return merged(_of_one_kind(name, ours, theirs), theirs)
    key = MERGE_KEYS.get(name)
    if key is not None and isinstance(ours, Sequence) and isinstance(theirs, Sequence):
        return _merged_items(name, key, ours, theirs)
    return theirs


def _merged_items(name: str, key: str, ours: Sequence[Any], theirs: Sequence[Any]) -> list[Any]:
    items = {item.get(key): item for item in ours}
    for item in theirs:
        before = _of_one_kind(name, items.get(item.get(key), {}), item)
        items[item.get(key)] = merged(before, item)
    return list(items.values())


def _of_one_kind(
    name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return *ours* without the kinds of it that *theirs* replaces by another."""
    kinds = set(_KINDS.get(name, ()))
    if name in _COMMON:
        kinds = {*ours, *theirs} - {_COMMON[name]}
    chosen = {kind for kind in kinds if theirs.get(kind) is not None}
    if not chosen:
        return ours
    return {field: value for field, value in ours.items() if field not in kinds - chosen}
