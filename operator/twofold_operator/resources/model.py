"""The model that a service serves, and its engine."""

from typing import Annotated, Literal

from msgspec import Meta

from twofold_operator.resources.wire import ImageName, LongText, Part, SecretReference, ShortText

EngineKind = Literal["vllm", "sim"]

ModelName = Annotated[
    str, Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$")
]
"""What clients send as the model."""

EngineArguments = Annotated[tuple[LongText, ...], Meta(max_length=128)]


class Lora(Part, frozen=True, kw_only=True):
    """Room for LoRA adapters in every engine."""

    max_adapters: Annotated[int, Meta(ge=1, le=256)] = 4
    """Adapters that one batch may hold (vLLM's --max-loras)."""
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """The largest rank of an adapter (vLLM's --max-lora-rank)."""


class Model(Part, frozen=True, kw_only=True):
    """What is served."""

    source: Annotated[str, Meta(min_length=1, max_length=1024)]
    """Where the weights are: hf://ORGANISATION/NAME, s3://BUCKET/PATH, pvc://CLAIM/PATH,
    oci://REPOSITORY:TAG (an image volume: KubeRay 1.3 and Kubernetes 1.35, or before with its
    feature gate), or an absolute path in the worker image."""
    served_name: ModelName | None = None
    """What clients send as the model. Default: the resource's name."""
    revision: ShortText | None = None
    """Branch, tag or commit of a hf:// source. Default: the newest when a worker starts."""
    max_model_len: Annotated[int, Meta(ge=2, le=16_777_216)] | None = None
    """Tokens of a prompt and its answer together. Default: what the model allows."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Of weights and computations."""
    engine_args: EngineArguments = ()
    """Further command line arguments of vLLM, as typed."""
    secret_ref: SecretReference | None = None
    """A Secret whose keys are the workers' environment, such as HF_TOKEN or AWS_ACCESS_KEY_ID."""
    lora: Lora | None = None
    """Takes LoRAAdapters. Without it the service refuses them."""


class Sim(Part, frozen=True, kw_only=True):
    """Engines without a model, for a cluster without GPUs."""

    profile: Annotated[str, Meta(min_length=1, max_length=253)] = "smollm2-cpu"
    """Whose times an engine keeps: a name that the simulator knows, or a path in its image."""
    args: EngineArguments = ()
    """Further command line arguments of the simulator's engine, as typed."""


class Images(Part, frozen=True, kw_only=True):
    """Images instead of the operator's own."""

    worker: ImageName | None = None
    """Of the Ray nodes, and so of the workers."""
    router: ImageName | None = None
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: Annotated[tuple[SecretReference, ...], Meta(max_length=8)] = ()
