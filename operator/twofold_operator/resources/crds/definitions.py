"""The CRDs: names, versions, columns and subresources around the schemas."""

from dataclasses import dataclass
from typing import Any

import msgspec

from twofold_operator.resources.crds.descriptions import type_description
from twofold_operator.resources.crds.schemas import Schema, rules_of, schema_of
from twofold_operator.resources.kinds import (
    GROUP,
    LLM_SERVICE,
    LORA_ADAPTER,
    VERSION,
    WORKER_POOL,
    Kind,
)
from twofold_operator.resources.lora_adapter import LoRAAdapter, LoRAAdapterSpec, LoRAAdapterStatus
from twofold_operator.resources.service import LLMService, LLMServiceSpec, LLMServiceStatus
from twofold_operator.resources.worker_pool import WorkerPool, WorkerPoolSpec, WorkerPoolStatus

Column = tuple[str, str, str]
"""Name, type, JSON path."""

_AGE: Column = ("Age", "date", ".metadata.creationTimestamp")


@dataclass(frozen=True, slots=True)
class _Definition:
    kind: Kind
    whole: type[msgspec.Struct]
    spec: type[msgspec.Struct]
    status: type[msgspec.Struct]
    columns: tuple[Column, ...]
    wide_columns: tuple[Column, ...] = ()
    """Of ``kubectl get -o wide``."""
    scale: dict[str, str] | None = None


def _condition(condition: str, part: str) -> str:
    return f'.status.conditions[?(@.type=="{condition}")].{part}'


_DEFINITIONS = (
    _Definition(
        LLM_SERVICE,
        LLMService,
        LLMServiceSpec,
        LLMServiceStatus,
        columns=(
            ("Ready", "string", _condition("Ready", "status")),
            ("Reason", "string", _condition("Ready", "reason")),
            ("Prefill", "string", ".status.prefill.summary"),
            ("Decode", "string", ".status.decode.summary"),
            ("Rollout", "string", _condition("Progressing", "reason")),
            ("Revision", "string", ".status.revision"),
            ("Endpoint", "string", ".status.endpoint"),
            _AGE,
        ),
        wide_columns=(
            ("Source", "string", ".spec.model.source"),
            ("Message", "string", _condition("Ready", "message")),
        ),
    ),
    _Definition(
        WORKER_POOL,
        WorkerPool,
        WorkerPoolSpec,
        WorkerPoolStatus,
        columns=(
            ("Service", "string", ".spec.serviceName"),
            ("Role", "string", ".spec.role"),
            ("Wanted", "integer", ".spec.replicas"),
            ("Ready", "string", ".status.summary"),
            _AGE,
        ),
        wide_columns=(("Message", "string", _condition("Ready", "message")),),
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    _Definition(
        LORA_ADAPTER,
        LoRAAdapter,
        LoRAAdapterSpec,
        LoRAAdapterStatus,
        columns=(
            ("Service", "string", ".spec.service"),
            ("Ready", "string", _condition("Ready", "status")),
            ("Reason", "string", _condition("Ready", "reason")),
            ("Loaded", "string", ".status.summary"),
            _AGE,
        ),
        wide_columns=(
            ("Source", "string", ".spec.source"),
            ("Message", "string", _condition("Ready", "message")),
        ),
    ),
)


def custom_resource_definitions() -> list[dict[str, Any]]:
    """Return the manifests of all CRDs."""
    return [_manifest(definition) for definition in _DEFINITIONS]


def _manifest(definition: _Definition) -> dict[str, Any]:
    kind = definition.kind
    scale = {} if definition.scale is None else {"scale": definition.scale}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": kind.crd_name,
            "labels": {"app.kubernetes.io/name": "twofold", "app.kubernetes.io/part-of": "twofold"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": ["twofold"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}, **scale},
                    "additionalPrinterColumns": [
                        *map(_column, definition.columns),
                        *({**_column(column), "priority": 1} for column in definition.wide_columns),
                    ],
                    "schema": {"openAPIV3Schema": _schema(definition)},
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    name, type_, path = column
    return {"name": name, "type": type_, "jsonPath": path}


def _schema(definition: _Definition) -> Schema:
    return {
        "description": type_description(definition.whole),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(definition.spec),
            "status": schema_of(definition.status, defaults=False),
        },
        **rules_of(definition.whole),
    }
