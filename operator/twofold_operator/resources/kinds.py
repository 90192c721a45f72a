"""The names of the custom resources."""

from dataclasses import dataclass
from typing import Final

GROUP: Final = "serving.twofold.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource by all of its names."""

    kind: str
    singular: str
    plural: str
    short_names: tuple[str, ...]

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


LLM_SERVICE: Final = Kind("LLMService", "llmservice", "llmservices", ("llm",))
WORKER_POOL: Final = Kind("WorkerPool", "workerpool", "workerpools", ("wp",))
LORA_ADAPTER: Final = Kind("LoRAAdapter", "loraadapter", "loraadapters", ("lora",))
KINDS: Final = (LLM_SERVICE, WORKER_POOL, LORA_ADAPTER)
