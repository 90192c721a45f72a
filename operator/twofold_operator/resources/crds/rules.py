"""What the API server checks beside the types: rules in CEL, by the type that they stand on.

A rule sees no more than ``has()`` lets it: a field without default may be missing. All that a
rule reads is bounded, or the API server would refuse it as too dear.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from twofold_operator.resources.checking import MAX_NAME_LENGTH, NAME_PATTERN
from twofold_operator.resources.lora_adapter import LoRAAdapterSpec
from twofold_operator.resources.model import Model
from twofold_operator.resources.pools import Pool
from twofold_operator.resources.ray import Ray
from twofold_operator.resources.service import LLMService, LLMServiceSpec
from twofold_operator.resources.serving import Gateway, PromisedClass
from twofold_operator.resources.worker_pool import WorkerPoolSpec


@dataclass(frozen=True, slots=True)
class Rule:
    """Holds for every object, or, if it reads ``oldSelf``, for every change of one."""

    rule: str
    message: str
    field: str | None = None
    """Path of the field to blame, from where the rule stands."""


def _unchanging(field: str, *, optional: bool = False) -> Rule:
    rule = f"self.{field} == oldSelf.{field}"
    if optional:
        rule = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {rule})"
    return Rule(rule, f"{field} cannot change; make another object", f".{field}")


def _ordered(low: str, high: str) -> Rule:
    return Rule(
        f"!has(self.{low}) || !has(self.{high}) || self.{low} <= self.{high}",
        f"{low} must not be above {high}",
        f".{low}",
    )


_HAS_ADDRESS = "has({0}.ray) && has({0}.ray.address)"

RULES: Mapping[type[msgspec.Struct], tuple[Rule, ...]] = {
    LLMService: (
        Rule(
            f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
            f"the name may have {MAX_NAME_LENGTH} characters, so that those made of it fit",
        ),
        Rule(
            f"self.metadata.name.matches('{NAME_PATTERN}')",
            "the name must begin with a letter and have no dot, as a Service's does",
        ),
    ),
    LLMServiceSpec: (
        Rule(
            "self.decode.tensorParallel % self.prefill.tensorParallel == 0",
            "decode.tensorParallel must be a multiple of prefill.tensorParallel",
            ".decode.tensorParallel",
        ),
        Rule(
            "!has(self.decode.replicas) || self.decode.replicas > 0 "
            "|| (has(self.prefill.replicas) && self.prefill.replicas == 0)",
            "prefill workers alone answer nothing: decode.replicas must not be 0 alone",
            ".decode.replicas",
        ),
        Rule(
            "!has(self.sim) || self.engine == 'sim'",
            "sim has no meaning unless engine is sim",
            ".sim",
        ),
        _unchanging("engine"),
        Rule(
            f"({_HAS_ADDRESS.format('self')}) == ({_HAS_ADDRESS.format('oldSelf')}) "
            f"&& (!({_HAS_ADDRESS.format('self')}) || self.ray.address == oldSelf.ray.address)",
            "ray.address cannot change; make another service",
            ".ray",
        ),
    ),
    Model: (
        Rule(
            "self.source.startsWith('/') || self.source.matches('^(hf|s3|pvc|oci)://[^/]')",
            "source must begin with hf://, s3://, pvc:// or oci://, or be an absolute path",
            ".source",
        ),
        Rule(
            "!has(self.revision) || self.source.startsWith('hf://')",
            "only a hf:// source has revisions",
            ".revision",
        ),
    ),
    Ray: (
        Rule(
            "!has(self.authSecret) || has(self.address)",
            "authSecret opens a Ray cluster that exists: it needs ray.address",
            ".authSecret",
        ),
        Rule(
            "!has(self.gcsFaultTolerance) || !has(self.address)",
            "gcsFaultTolerance is for a cluster that KubeRay makes: it goes without ray.address",
            ".gcsFaultTolerance",
        ),
    ),
    PromisedClass: (
        Rule(
            "self.name != 'default'",
            "the class default is told by slo itself",
            ".name",
        ),
    ),
    Pool: (
        _ordered("minReplicas", "maxReplicas"),
        _ordered("minReplicas", "replicas"),
        _ordered("replicas", "maxReplicas"),
    ),
    Gateway: (
        Rule(
            "has(self.minReplicas) == has(self.maxReplicas)",
            "an autoscaler needs both minReplicas and maxReplicas",
        ),
        _ordered("minReplicas", "maxReplicas"),
    ),
    WorkerPoolSpec: (_unchanging("serviceName"), _unchanging("role")),
    LoRAAdapterSpec: (
        _unchanging("service"),
        _unchanging("name", optional=True),
        Rule(
            "self.source.startsWith('/') || self.source.startsWith('hf://')",
            "source must begin with hf:// or be an absolute path",
            ".source",
        ),
    ),
}
