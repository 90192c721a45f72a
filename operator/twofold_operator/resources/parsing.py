"""Manifests to resources and back."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from twofold_operator.resources.checking import check_lora_adapter, check_service
from twofold_operator.resources.errors import InvalidSpecError
from twofold_operator.resources.lora_adapter import LoRAAdapter, LoRAAdapterSpec, LoRAAdapterStatus
from twofold_operator.resources.metadata import ObjectMeta
from twofold_operator.resources.service import LLMService, LLMServiceSpec, LLMServiceStatus
from twofold_operator.resources.worker_pool import WorkerPool, WorkerPoolSpec, WorkerPoolStatus

Manifest = Mapping[str, Any]

_Part = TypeVar("_Part", bound=msgspec.Struct)

_PLACED = re.compile(r"(?P<problem>.*) - at `(?P<path>\$.*)`", re.DOTALL)


def parse_service(manifest: Manifest) -> LLMService:
    """Read an LLMService.

    Raises:
        InvalidSpecError: the spec cannot be followed.
    """
    spec = _parse_spec(manifest, LLMServiceSpec)
    status = parse_service_status(manifest)
    service = LLMService(metadata=parse_metadata(manifest), spec=spec, status=status)
    check_service(service)
    return service


def parse_service_status(manifest: Manifest) -> LLMServiceStatus:
    """Read what was last said of an LLMService: nothing, if another version of ours said it."""
    return _parse_status(manifest, LLMServiceStatus) or LLMServiceStatus()


def parse_worker_pool(manifest: Manifest) -> WorkerPool:
    """Read a WorkerPool.

    Raises:
        InvalidSpecError: the spec cannot be followed.
    """
    return WorkerPool(
        metadata=parse_metadata(manifest),
        spec=_parse_spec(manifest, WorkerPoolSpec),
        status=_parse_status(manifest, WorkerPoolStatus),
    )


def parse_lora_adapter(manifest: Manifest) -> LoRAAdapter:
    """Read a LoRAAdapter.

    Raises:
        InvalidSpecError: the spec cannot be followed.
    """
    adapter = LoRAAdapter(
        metadata=parse_metadata(manifest),
        spec=_parse_spec(manifest, LoRAAdapterSpec),
        status=_parse_status(manifest, LoRAAdapterStatus),
    )
    check_lora_adapter(adapter)
    return adapter


def parse_metadata(manifest: Manifest) -> ObjectMeta:
    """Read what Kubernetes says of an object. It is never a user's fault if that cannot be read."""
    return msgspec.convert(manifest["metadata"], ObjectMeta)


def _parse_spec(manifest: Manifest, spec: type[_Part]) -> _Part:
    try:
        return msgspec.convert(manifest.get("spec", {}), spec)
    except msgspec.ValidationError as error:
        raise _invalid_spec(str(error)) from error


def _parse_status(manifest: Manifest, status: type[_Part]) -> _Part | None:
    """Read a status of ours; None if there is none, or if another version of ours wrote it."""
    try:
        return msgspec.convert(manifest["status"], status)
    except (KeyError, msgspec.ValidationError):
        return None


def _invalid_spec(message: str) -> InvalidSpecError:
    """Say with Kubernetes' path what msgspec says with its own."""
    placed = _PLACED.fullmatch(message)
    problem, path = (placed["problem"], placed["path"]) if placed else (message, "$")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", problem)
    field = "spec" + path.removeprefix("$")
    if missing:
        return InvalidSpecError(f"{field}.{missing[1]}", "is required")
    return InvalidSpecError(field, problem[:1].lower() + problem[1:])
