"""``LLMService``: one model, served."""

from typing import Annotated

from msgspec import Meta

from twofold_operator.resources.conditions import Conditions
from twofold_operator.resources.metadata import ObjectMeta
from twofold_operator.resources.model import EngineKind, Images, Model, Sim
from twofold_operator.resources.pools import Pool, PoolRole
from twofold_operator.resources.ray import Ray
from twofold_operator.resources.rollout import Rollout
from twofold_operator.resources.serving import (
    Disaggregation,
    Gateway,
    Observability,
    Routing,
    Slo,
    Transfer,
)
from twofold_operator.resources.wire import Count, Part


class LLMServiceSpec(Part, frozen=True, kw_only=True):
    """What is wanted of the service."""

    model: Model
    prefill: Pool
    """The workers that compute prompts."""
    decode: Pool
    """The workers that generate answers."""
    engine: EngineKind = "vllm"
    """sim: engines without a model, for a cluster without GPUs."""
    sim: Sim | None = None
    """How engines without a model behave; with engine sim only."""
    images: Images = Images()
    slo: Slo = Slo()
    routing: Routing = Routing()
    disaggregation: Disaggregation = Disaggregation()
    transfer: Transfer = Transfer()
    ray: Ray = Ray()
    gateway: Gateway = Gateway()
    observability: Observability = Observability()
    rollout: Rollout = Rollout()

    @property
    def simulator(self) -> Sim:
        """Return how engines without a model behave; with engine sim only."""
        return self.sim or Sim()

    def pool(self, role: PoolRole) -> Pool:
        return self.prefill if role == "prefill" else self.decode


class RoleStatus(Part, frozen=True, kw_only=True):
    """The workers of one role."""

    desired: Count
    """Wanted by now, within the bounds."""
    ready: Count
    """That serve, of whatever revision. While their pool manager does not answer and they may
    serve: that did when it answered last; PrefillReady and DecodeReady are Unknown then."""
    updated: Count
    """That serve, of the wanted revision."""
    summary: Annotated[str, Meta(max_length=32)]
    """READY/DESIRED, for a person."""

    @classmethod
    def of(cls, *, desired: int, ready: int, updated: int) -> "RoleStatus":
        return cls(desired=desired, ready=ready, updated=updated, summary=f"{ready}/{desired}")


class LLMServiceStatus(Part, frozen=True, kw_only=True):
    """What was last seen of the service."""

    observed_generation: Annotated[int, Meta(ge=0, extra_json_schema={"format": "int64"})] = 0
    """The generation of the spec that this was seen of."""
    conditions: Conditions = ()
    """Ready, Progressing, Degraded, PrefillReady, DecodeReady and RouterReady."""
    endpoint: Annotated[str, Meta(max_length=512)] | None = None
    """The base URL for OpenAI clients within the cluster."""
    revision: Annotated[str, Meta(max_length=63)] | None = None
    """The revision that takes new requests."""
    prefill: RoleStatus | None = None
    decode: RoleStatus | None = None


class LLMService(Part, frozen=True, kw_only=True):
    """One model, served with prefill and decode on workers of their own."""

    metadata: ObjectMeta
    spec: LLMServiceSpec
    status: LLMServiceStatus = LLMServiceStatus()

    @property
    def served_name(self) -> str:
        """Return what clients send as the model."""
        return self.spec.model.served_name or self.metadata.name

    @property
    def service_id(self) -> str:
        """Return the name of the service in the membership and among the pool managers."""
        return f"{self.metadata.namespace}.{self.metadata.name}"
