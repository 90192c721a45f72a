from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from cel import evaluate

from twofold_operator.resources.crds import custom_resource_definitions

Admit = Callable[..., list[str]]

SCHEMAS = {
    manifest["spec"]["names"]["kind"]: manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for manifest in custom_resource_definitions()
}


@pytest.fixture
def admit() -> Admit:
    """Return what an API server does with an object: it fills the defaults in, then returns why
    it refuses the object, which may be the *new* state of an *old* one."""

    def admit(new: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
        schema = SCHEMAS[new["kind"]]
        filled, before = _filled(schema, new), old and _filled(schema, old)
        errors = jsonschema.Draft7Validator(schema).iter_errors(filled)
        return [error.message for error in errors] or list(_broken(schema, filled, before))

    return admit


def _filled(schema: dict[str, Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_filled(schema["items"], item) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    defaults = {name: field["default"] for name, field in properties.items() if "default" in field}
    return {
        name: _filled(properties.get(name, {}), item)
        for name, item in {**defaults, **value}.items()
    }


def _broken(schema: dict[str, Any], value: Any, old: Any) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"]:
            holds = evaluate(rule["rule"], {"self": value})
        else:
            holds = old is None or evaluate(rule["rule"], {"self": value, "oldSelf": old})
        if holds is not True:
            yield rule["message"]
    for item in value if isinstance(value, list) else ():
        yield from _broken(schema["items"], item, None)
    for name, field in schema.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            yield from _broken(field, value[name], old.get(name) if old else None)
