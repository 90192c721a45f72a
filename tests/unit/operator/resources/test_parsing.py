from typing import Any

import pytest

from twofold_operator.resources import (
    InvalidSpecError,
    parse_lora_adapter,
    parse_service,
    parse_worker_pool,
)


def _service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.twofold.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "qwen3-8b", "namespace": "ai", "generation": 3, "managedFields": []},
        "spec": {"model": {"source": "hf://Qwen/Qwen3-8B"}, "prefill": {}, "decode": {}, **spec},
    }


def test_the_least_that_a_user_writes_is_a_service() -> None:
    service = parse_service(_service())

    assert service.metadata.generation == 3
    assert service.service_id == "ai.qwen3-8b"
    assert service.served_name == "qwen3-8b"
    assert (service.spec.prefill.start_replicas, service.spec.decode.start_replicas) == (1, 1)


def test_a_served_name_is_what_clients_send() -> None:
    model = {"source": "hf://Qwen/Qwen3-8B", "servedName": "Qwen/Qwen3-8B"}

    assert parse_service(_service(model=model)).served_name == "Qwen/Qwen3-8B"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": None}, "spec.model"),
        ({"model": {}}, "spec.model.source"),
        ({"decode": {"replicas": "two"}}, "spec.decode.replicas"),
        ({"decode": {"replicas": -1}}, "spec.decode.replicas"),
        ({"slo": {"onLate": "shrug"}}, "spec.slo.onLate"),
        ({"images": {"pullSecrets": [{"name": "a"}, {}]}}, "spec.images.pullSecrets[1].name"),
        ({"prefill": {"resources": {"limits": {"cpu": []}}}}, "spec.prefill.resources.limits[...]"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        parse_service(_service(**spec))

    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_a_manifest_without_a_spec_names_what_is_missing() -> None:
    with pytest.raises(InvalidSpecError, match=r"^spec\.model: is required$"):
        parse_service({"metadata": {"name": "a"}})


def test_a_field_of_a_newer_version_is_left_aside() -> None:
    assert parse_service(_service(tomorrow={"a": 1})).spec == parse_service(_service()).spec


def test_a_status_of_another_version_is_as_good_as_none() -> None:
    manifest = {**_service(), "status": {"conditions": "fine", "revision": "a1"}}

    assert parse_service(manifest).status == parse_service(_service()).status


def test_a_status_of_ours_is_read() -> None:
    manifest = {**_service(), "status": {"revision": "a1", "observedGeneration": 2}}

    status = parse_service(manifest).status

    assert (status.revision, status.observed_generation) == ("a1", 2)


def test_an_adapter_is_served_by_its_name_or_that_of_its_resource() -> None:
    manifest = {
        "metadata": {"name": "llama-sql"},
        "spec": {"service": "llama", "source": "hf://a/b"},
    }
    named = {**manifest, "spec": {**manifest["spec"], "name": "sql"}}

    assert parse_lora_adapter(manifest).served_name == "llama-sql"
    assert parse_lora_adapter(named).served_name == "sql"


@pytest.mark.parametrize("source", ["oci://registry/adapter:1", "pvc://claim/a", "s3://bucket/a"])
def test_an_adapter_that_no_running_engine_can_reach_is_refused(source: str) -> None:
    spec = {"service": "llama", "source": source}

    with pytest.raises(InvalidSpecError, match=r"^spec\.source: "):
        parse_lora_adapter({"metadata": {"name": "a"}, "spec": spec})


def test_a_worker_pool_is_of_prefill_or_decode() -> None:
    spec = {"serviceName": "llama", "role": "both", "replicas": 1}

    with pytest.raises(InvalidSpecError, match=r"^spec\.role: "):
        parse_worker_pool({"metadata": {"name": "a"}, "spec": spec})


def test_an_object_on_its_way_out_is_known() -> None:
    manifest = _service()
    manifest["metadata"]["deletionTimestamp"] = "2026-11-22T04:00:00Z"

    assert parse_service(manifest).metadata.is_leaving
    assert not parse_service(_service()).metadata.is_leaving
