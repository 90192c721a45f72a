"""Services that the scenarios apply. All are called ``sim``."""

from pathlib import Path
from typing import Any

import yaml

from .kubectl import Manifest

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


def sim(**changes: Any) -> Manifest:
    """Return the example without GPUs. ``maxModelLen`` is the model's; all else is the spec's."""
    service: Manifest = yaml.safe_load((EXAMPLES / "sim.yaml").read_text())
    if "maxModelLen" in changes:
        service["spec"]["model"]["maxModelLen"] = changes.pop("maxModelLen")
    service["spec"]["prefill"] = {"replicas": 1}
    service["spec"]["decode"] = {"replicas": 1}
    service["spec"] |= changes
    return service


def with_lora() -> Manifest:
    """Return a service that takes adapters; no real engine starts here, so that none is needed."""
    service = sim()
    del service["spec"]["sim"]
    service["spec"]["engine"] = "vllm"
    service["spec"]["model"] = {"source": "hf://acme/base", "lora": {}}
    return service


def adapter() -> Manifest:
    return {
        "apiVersion": "serving.twofold.dev/v1alpha1",
        "kind": "LoRAAdapter",
        "metadata": {"name": "sql"},
        "spec": {"service": "sim", "source": "hf://acme/sql"},
    }
