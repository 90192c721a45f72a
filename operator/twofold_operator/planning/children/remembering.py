"""The ConfigMap that holds what must survive the operator."""

from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.children.ownership import child
from twofold_operator.planning.memory import Memory, write_memory
from twofold_operator.resources import LLMService


def memory_map(service: LLMService, memory: Memory) -> dict[str, Any]:
    return child(
        service,
        "v1",
        "ConfigMap",
        names.memory_name(service.metadata.name),
        "operator",
        data=write_memory(memory),
    )
