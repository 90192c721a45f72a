"""A pod template of the user's, merged over ours as kubectl merges patches."""

from collections.abc import Mapping, Sequence
from typing import Any

from twofold_operator.resources import MERGE_KEYS


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
        return merged(ours, theirs)
    key = MERGE_KEYS.get(name)
    if key is not None and isinstance(ours, Sequence) and isinstance(theirs, Sequence):
        return _merged_items(key, ours, theirs)
    return theirs


def _merged_items(key: str, ours: Sequence[Any], theirs: Sequence[Any]) -> list[Any]:
    items = {item.get(key): item for item in ours}
    for item in theirs:
        items[item.get(key)] = merged(items.get(item.get(key), {}), item)
    return list(items.values())
