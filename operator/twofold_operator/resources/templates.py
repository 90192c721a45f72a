"""Pod templates of users: what must hold of one before it can be merged over ours."""

from collections.abc import Mapping
from typing import Any

from twofold_operator.resources.errors import InvalidSpecError

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose items are known by a key (strategic merge patch, core/v1)."""

_NUMBERS = ("containerPort",)
_CONTAINERS = ("containers", "initContainers")
_OF_CONTAINERS = ("env", "ports", "volumeMounts")
_NEEDED = ("containers", "volumes")
"""Null would take away ours."""


def check_template(template: Mapping[str, Any], field: str) -> None:
    """See that *template* can be merged; all else of it is for the API server to say.

    Raises:
        InvalidSpecError: it cannot.
    """
    for part, value in template.items():
        if part not in ("metadata", "spec"):
            raise InvalidSpecError(f"{field}.{part}", "a pod template has metadata and spec")
        if not isinstance(value, dict):
            raise InvalidSpecError(f"{field}.{part}", "must be an object")
    for name in ("labels", "annotations"):
        _check_strings(template.get("metadata", {}).get(name), f"{field}.metadata.{name}")
    spec, field = template.get("spec", {}), f"{field}.spec"
    for name in MERGE_KEYS:
        if name not in _OF_CONTAINERS:
            _check_list(spec, name, field)
    _check_object(spec.get("securityContext"), f"{field}.securityContext")
    for group in _CONTAINERS:
        for index, container in enumerate(spec.get(group) or ()):
            _check_container(container, f"{field}.{group}[{index}]")


def check_ray_template(template: Mapping[str, Any], field: str) -> None:
    """See that *template* can be merged into a pod that Ray runs in.

    Raises:
        InvalidSpecError: it cannot.
    """
    check_template(template, field)
    if template.get("spec", {}).get("hostNetwork"):
        raise InvalidSpecError(
            f"{field}.spec.hostNetwork",
            "pods of one node would want the same ports, and NetworkPolicies would not hold",
        )


def _check_container(container: Mapping[str, Any], field: str) -> None:
    for name in _OF_CONTAINERS:
        _check_list(container, name, field)
    _check_object(container.get("securityContext"), f"{field}.securityContext")
    for index, variable in enumerate(container.get("env") or ()):
        _check_string(variable.get("value"), f"{field}.env[{index}].value")


def _check_list(parent: Mapping[str, Any], name: str, field: str) -> None:
    """See that the items of a list have the key that they are known by."""
    items, field, key = parent.get(name, []), f"{field}.{name}", MERGE_KEYS[name]
    if items is None and name not in _NEEDED:
        return
    if not isinstance(items, list):
        raise InvalidSpecError(field, "must be a list")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise InvalidSpecError(f"{field}[{index}]", f"must be an object with {key}")
        if item.get(key) is None:
            raise InvalidSpecError(f"{field}[{index}].{key}", "is required")
        if key not in _NUMBERS:
            _check_string(item[key], f"{field}[{index}].{key}")
        elif not isinstance(item[key], int):
            raise InvalidSpecError(f"{field}[{index}].{key}", "must be a number, without quotes")


def _check_strings(values: Any, field: str) -> None:
    _check_object(values, field)
    for name, value in (values or {}).items():
        _check_string(value, f"{field}[{name}]")


def _check_object(value: Any, field: str) -> None:
    if not isinstance(value, dict | None):
        raise InvalidSpecError(field, "must be an object")


def _check_string(value: Any, field: str) -> None:
    if not isinstance(value, str | None):
        raise InvalidSpecError(field, "must be a string; a number, true or false needs quotes")
