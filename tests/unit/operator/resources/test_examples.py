"""The examples of deploy/ are what the resources allow."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from twofold_operator.resources import API_VERSION, parse_lora_adapter, parse_service, to_wire
from twofold_operator.resources.crds import custom_resource_definitions

FOLDER = Path(__file__).parents[4] / "deploy" / "examples"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
OURS = {"LLMService": parse_service, "LoRAAdapter": parse_lora_adapter}
SCHEMAS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for crd in custom_resource_definitions()
}


def _manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def _strict(schema: Any) -> Any:
    """Return *schema* for a user's file, where an unknown field is a slip of the pen."""
    if not isinstance(schema, dict):
        return schema
    strict = {
        name: {field: _strict(below) for field, below in value.items()}
        if name == "properties"
        else _strict(value)
        for name, value in schema.items()
    }
    if "properties" in schema:
        strict["additionalProperties"] = False
    return strict


def test_there_is_an_example_of_each_way_to_serve() -> None:
    assert FILES == [
        "external-ray.yaml",
        "lora.yaml",
        "production.yaml",
        "sim.yaml",
        "smallest.yaml",
    ]


@pytest.mark.parametrize("name", FILES)
def test_an_example_can_be_made(name: str) -> None:
    ours = [manifest for manifest in _manifests(name) if manifest["apiVersion"] == API_VERSION]

    parsed = [OURS[manifest["kind"]](manifest) for manifest in ours]

    assert len(parsed) == len(ours) > 0


@pytest.mark.parametrize("name", FILES)
def test_an_example_has_no_field_that_is_not_in_the_schema(name: str) -> None:
    ours = [manifest for manifest in _manifests(name) if manifest["apiVersion"] == API_VERSION]

    for manifest in ours:
        jsonschema.validate(
            manifest["spec"], _strict(SCHEMAS[manifest["kind"]])["properties"]["spec"]
        )


def test_an_adapter_of_an_example_is_of_a_service_that_takes_it() -> None:
    services = {
        manifest["metadata"]["name"]: parse_service(manifest)
        for manifest in _manifests("lora.yaml")
        if manifest["kind"] == "LLMService"
    }
    adapters = [
        parse_lora_adapter(manifest)
        for manifest in _manifests("lora.yaml")
        if manifest["kind"] == "LoRAAdapter"
    ]

    assert adapters
    for adapter in adapters:
        assert to_wire(services[adapter.spec.service].spec.model)["lora"]
