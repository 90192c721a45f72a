"""The ``LLMService`` that asks for what was planned.

A fixed document, written by hand: what goes into it are numbers, and texts that are quoted.
"""

import re
from collections.abc import Iterator

from twofold_sim.planning.layout import Pairing
from twofold_sim.planning.plan import Plan

ANY_MODEL = "hf://ORGANISATION/MODEL"
"""A profile does not say where its model is from."""

_NAME_LENGTH = 40
"""What the operator takes: names of children are made of it."""


def render_resource(plan: Plan, *, name: str, model: str | None, command: str) -> str:
    """Return the YAML of the best layout of *plan*, with comments on what it was planned for.

    *name* is made one that Kubernetes takes. *model* is a source, such as ``hf://Qwen/Qwen3-8B``.
    """
    lines = [f"# {_one_line(line)}" for line in _comments(plan, command)]
    lines += _document(plan, resource_name(name), model)
    return "\n".join(lines) + "\n"


def resource_name(text: str) -> str:
    """Turn *text* into a name that an LLMService may have: small letters, digits and hyphens, a
    letter first."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if name[:1].isdigit():
        name = f"m-{name}"
    return name[:_NAME_LENGTH].strip("-") or "model"


def _comments(plan: Plan, command: str) -> Iterator[str]:
    best, objective = plan.best, plan.objective
    yield f"Planned with: {command}"
    yield (
        f"{best.layout}: {best.layout.gpu_count} of {plan.gpu_count} GPUs, with the costs of "
        f"{' and '.join(dict.fromkeys(each.name for each in best.layout.pairing.engines))}"
    )
    yield (
        f"serves {best.goodput_qps:.3g} requests a second like those of {plan.workload}, "
        f"{objective.good_share:.0%} of them within both SLOs, in simulated runs"
    )
    if plan.long_prompts is not None:
        yield f"{plan.long_prompts}: it is not planned for these as they are"
    runner_up = plan.runner_up
    if runner_up is not None:
        yield f"runner-up: {runner_up.layout}, {plan.behind(runner_up):.1%} behind"
    if best.layout.pairing.is_aggregated:
        yield "nobody only prefills: each worker computes its prompts itself"
    yield f"prompts and answers together have at most {plan.max_model_tokens} tokens"
    if plan.trained_tokens is not None:
        yield (
            f"but the model was trained for {plan.trained_tokens}, so that maxModelLen is left out "
            "and longer requests are refused"
        )


def _document(plan: Plan, name: str, model: str | None) -> Iterator[str]:
    layout = plan.best.layout
    prefill, decode = layout.pairing.prefill, layout.pairing.decode
    yield "apiVersion: serving.twofold.dev/v1alpha1"
    yield "kind: LLMService"
    yield "metadata:"
    yield f"  name: {_quoted(name)}"
    yield "spec:"
    yield "  model:"
    if model is None:
        yield "    # A profile does not say where its model is from."
    yield f"    source: {_quoted(model or ANY_MODEL)}"
    if plan.trained_tokens is None:
        yield f"    maxModelLen: {plan.max_model_tokens}"
    yield from _engine_arguments(layout.pairing)
    yield "  prefill:"
    yield f"    replicas: {layout.prefill_count}"
    if prefill is not None:
        yield f"    tensorParallel: {prefill.gpu_count}"
    yield "  decode:"
    yield f"    replicas: {layout.decode_count}"
    yield f"    tensorParallel: {decode.gpu_count}"
    if prefill is None:
        yield "  disaggregation:"
        yield "    # By choice: otherwise each request counts as a fallback, for want of prefill."
        yield "    enabled: false"
    yield "  slo:"
    yield f"    ttftMs: {_milliseconds(plan.objective.ttft_seconds)}"
    yield f"    tpotMs: {_milliseconds(plan.objective.tpot_seconds)}"
    if prefill is not None and prefill.gpu_count != decode.gpu_count:
        yield "  transfer:"
        yield "    # The one that transfers between engines of unequal tensor parallelism."
        yield "    connector: nixl"


def _engine_arguments(pairing: Pairing) -> Iterator[str]:
    """Bound the steps of both kinds of engines, which take the same arguments: of unequal ones the
    tokens are those of the first, which computes the prompts, and the sequences those of the last.
    """
    tokens, decode_tokens = (pairing.engines[at].max_batched_tokens for at in (0, -1))
    sequences = [min(each.max_sequences, each.max_batched_tokens) for each in pairing.engines]
    yield "    engineArgs:"
    if pairing.is_aggregated:
        yield "      # So that a long prompt does not hold the others up for longer."
    elif tokens != decode_tokens:
        yield f"      # Of those that prefill; those that decode are planned with {decode_tokens}."
    yield f'      - "--max-num-batched-tokens={tokens}"'
    if sequences[0] != sequences[-1]:
        yield f"      # Of those that decode; those that prefill are planned with {sequences[0]}."
    # vLLM has at least one token of a step for each sequence.
    yield f'      - "--max-num-seqs={min(sequences[-1], tokens)}"'


def _milliseconds(seconds: float) -> int:
    """Return the whole milliseconds that keep to a promise of *seconds*, and at least one."""
    return max(1, int(round(seconds * 1000, 6)))


def _one_line(text: str) -> str:
    """Keep a comment from becoming anything else."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _quoted(text: str) -> str:
    """Return *text* between quotes, with YAML's escapes for whatever is not plain."""
    plain = (
        sign if " " <= sign <= "~" and sign not in '"\\' else f"\\U{ord(sign):08x}" for sign in text
    )
    return f'"{"".join(plain)}"'
