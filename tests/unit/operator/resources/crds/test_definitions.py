from typing import Any

import pytest

from twofold_operator.resources import KINDS
from twofold_operator.resources.crds import custom_resource_definitions

CRDS = {crd["spec"]["names"]["kind"]: crd for crd in custom_resource_definitions()}


def _version(kind: str) -> dict[str, Any]:
    [version] = CRDS[kind]["spec"]["versions"]
    assert isinstance(version, dict)
    return version


def test_every_kind_has_a_definition_of_its_names() -> None:
    names = {(crd["metadata"]["name"], crd["spec"]["names"]["kind"]) for crd in CRDS.values()}

    assert names == {(kind.crd_name, kind.kind) for kind in KINDS}


def test_short_names_are_of_one_kind_each() -> None:
    short = [name for crd in CRDS.values() for name in crd["spec"]["names"]["shortNames"]]

    assert len(short) == len(set(short)) == len(KINDS)


@pytest.mark.parametrize("kind", CRDS)
def test_a_status_is_written_apart_from_the_spec(kind: str) -> None:
    assert _version(kind)["subresources"]["status"] == {}


def test_a_worker_pool_is_scaled_by_fields_that_there_are() -> None:
    version = _version("WorkerPool")
    schema = version["schema"]["openAPIV3Schema"]

    scale = version["subresources"]["scale"]

    assert {path: _at(schema, path) for path in scale.values()} == {
        ".spec.replicas": "integer",
        ".status.replicas": "integer",
        ".status.selector": "string",
    }


@pytest.mark.parametrize("kind", CRDS)
def test_a_column_shows_a_field_that_there_is(kind: str) -> None:
    schema = _version(kind)["schema"]["openAPIV3Schema"]
    columns = _version(kind)["additionalPrinterColumns"]

    paths = [column["jsonPath"] for column in columns]

    assert paths
    for path in paths:
        if not path.startswith((".metadata.", ".status.conditions[")):
            assert _at(schema, path)


def test_a_service_is_listed_with_what_a_person_asks_first() -> None:
    columns = [
        column["name"]
        for column in _version("LLMService")["additionalPrinterColumns"]
        if not column.get("priority")
    ]

    wanted = "Ready Reason Prefill Decode Rollout Revision Endpoint Age"
    assert columns == wanted.split()


def _at(schema: dict[str, Any], path: str) -> Any:
    for name in path.removeprefix(".").split("."):
        schema = schema["properties"][name]
    return schema["type"]
