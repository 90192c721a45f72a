"""What all children of a service have in common."""

from collections.abc import Mapping
from typing import Any

from twofold_operator.planning import names
from twofold_operator.resources import API_VERSION, LLM_SERVICE, LLMService


def child(
    service: LLMService,
    api_version: str,
    kind: str,
    name: str,
    component: str,
    *,
    revision: str | None = None,
    annotations: Mapping[str, str] | None = None,
    **content: Any,
) -> dict[str, Any]:
    """Return the manifest of a child; it goes with its service."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": service.metadata.namespace,
        "labels": names.labels(service.metadata.name, component, revision),
        "ownerReferences": [owner_reference(service)],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def owner_reference(service: LLMService) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": LLM_SERVICE.kind,
        "name": service.metadata.name,
        "uid": service.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selector(service: LLMService, component: str) -> dict[str, str]:
    """Return labels that select a component's pods; they never change in an object's life."""
    return {
        names.INSTANCE_LABEL: names.cut(service.metadata.name),
        names.COMPONENT_LABEL: component,
    }
