"""A plan to read: a table of the layouts, and a few sentences."""

from collections.abc import Iterator

from twofold_sim.measuring.tables import render
from twofold_sim.planning.plan import Candidate, Plan

HEADERS = (
    "layout",
    "GPUs",
    "goodput, req/s",
    "lowest - highest",
    "per GPU",
    "behind",
    "both SLOs",
    "TTFT met",
    "TPOT met",
    "binds",
    "TTFT p90, s",
    "TPOT p90, ms",
)


def plan_table(plan: Plan) -> str:
    """Render a line for each layout whose goodput is known, the best first."""
    return render(HEADERS, (_row(plan, candidate) for candidate in plan.candidates))


def plan_text(plan: Plan) -> str:
    """Say what is the best, by how much, how sure that is, and what was not looked at."""
    return "\n".join(_sentences(plan))


def _row(plan: Plan, candidate: Candidate) -> tuple[object, ...]:
    figures = candidate.figures
    ttft, tpot = figures.ttft_seconds.p90, figures.tpot_seconds.p90
    return (
        str(candidate.layout),
        candidate.layout.gpu_count,
        candidate.goodput_qps,
        f"{min(candidate.goodputs):.3g} - {max(candidate.goodputs):.3g}",
        plan.per_gpu(candidate),
        f"{plan.behind(candidate):.1%}",
        figures.slo_share,
        figures.on_time_share,
        figures.tpot_share,
        candidate.binding,
        ttft,
        None if tpot is None else tpot * 1000,
    )


def _sentences(plan: Plan) -> Iterator[str]:
    best, objective = plan.best, plan.objective
    yield (
        f"Best for {plan.gpu_count} GPUs: {best.layout}. It serves {best.goodput_qps:.3g} requests "
        f"a second, {plan.per_gpu(best):.3g} for each GPU, {objective.good_share:.0%} of them with "
        f"the first token within {_ms(objective.ttft_seconds)} and {_ms(objective.tpot_seconds)} "
        f"for each other. At a higher rate the {best.binding} is what is missed first."
    )
    yield from _on_runner_up(plan)
    if plan.unused_gpu_count:
        stay = "stays" if plan.unused_gpu_count == 1 else "stay"
        yield (
            f"{plan.unused_gpu_count} of the {plan.gpu_count} GPUs {stay} unused: no worker of "
            "these kinds has so few."
        )
    aggregated = [each for each in plan.candidates if each.layout.pairing.is_aggregated]
    if aggregated and not best.layout.pairing.is_aggregated:
        other = aggregated[0]
        yield f"With the phases together, {other.layout}, it is {plan.behind(other):.0%} less."
    for qps in sorted(set(plan.hopeless.values()), reverse=True):
        given_up = "; ".join(pairing for pairing, most in plan.hopeless.items() if most == qps)
        yield f"Given up early, with less than {qps:.3g} a second: {given_up}."
    if plan.long_prompts is not None:
        yield f"{plan.long_prompts}: the rates are not for these as they are in {plan.workload}."
    if plan.trained_tokens is not None:
        yield (
            f"Run with requests of up to {plan.max_model_tokens:,} tokens, as the costs were "
            f"measured; but the model was trained for {plan.trained_tokens:,}, and a service of it "
            "refuses longer ones."
        )
    if plan.unmeetable:
        yield f"Too slow even with one request at a time: {'; '.join(plan.unmeetable)}."
    if plan.is_short:
        yield (
            f"The measured requests arrive within {plan.measured_seconds:.0f} s, which is short "
            f"for a TTFT of {_ms(objective.ttft_seconds)} and requests that stay for up to "
            f"{plan.stay_seconds:.3g} s: take more requests, or these rates may be too high to "
            "last."
        )
    yield (
        f"{plan.run_count} simulated runs, those of clusters measured on {plan.measured_count} "
        f"requests of {plan.workload} ({plan.measured_seconds:.0f} s of arrivals), in "
        f"{plan.seconds:.0f} s."
    )


def _on_runner_up(plan: Plan) -> Iterator[str]:
    other = plan.runner_up
    if other is None:
        yield "There is no other layout that comes near it."
        return
    sentence = f"Runner-up: {other.layout}, {plan.behind(other):.1%} behind."
    if len(plan.seeds) == 1:
        sentence += " Found with one seed only."
    elif plan.is_certain:
        sentence += f" The best was better with each of {len(plan.seeds)} seeds."
    else:
        sentence += " Not certain: not with every seed was the best better, so take either."
    yield sentence


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.4g} ms"
