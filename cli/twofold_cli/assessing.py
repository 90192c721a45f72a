"""Judge a cluster from its parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from twofold_cli.settings import Settings
from twofold_cli.state import ClusterPhase, ComponentState, Phase, WorkerState
from twofold_cluster.identity import Role

ENGINE_RESTARTS_TO_FAIL = 2
"""An engine that died three times at its start dies of its arguments or of this machine."""


@dataclass(frozen=True, slots=True)
class Verdict:
    phase: ClusterPhase
    reason: str = ""


def assess(
    settings: Settings,
    components: Sequence[ComponentState],
    workers: Sequence[WorkerState],
    *,
    was_ready: bool,
) -> Verdict:
    """Judge the cluster. Only one that was never ready can fail: later, everything is repaired."""
    missing = _missing(settings, components, workers)
    if not missing:
        return Verdict(ClusterPhase.READY)
    if was_ready:
        return Verdict(ClusterPhase.DEGRADED, "; ".join(missing))
    fatal = _fatal(settings, components, workers)
    if fatal:
        return Verdict(ClusterPhase.FAILED, fatal)
    return Verdict(ClusterPhase.STARTING)


def _missing(
    settings: Settings, components: Sequence[ComponentState], workers: Sequence[WorkerState]
) -> list[str]:
    missing = [f"{part.name}: {part.phase}" for part in components if part.phase is not Phase.READY]
    for role, wanted in ((Role.PREFILL, settings.prefill), (Role.DECODE, settings.decode)):
        ready = sum(worker.role is role and worker.phase is Phase.READY for worker in workers)
        if ready < wanted:
            missing.append(f"{role}: {ready} of {wanted} workers ready")
    return missing


def _fatal(
    settings: Settings, components: Sequence[ComponentState], workers: Sequence[WorkerState]
) -> str:
    for worker in workers:
        if worker.phase is Phase.DEAD and worker.restarts >= ENGINE_RESTARTS_TO_FAIL:
            return f"{worker.worker_id} keeps dying: {worker.message}"
    for part in components:
        if part.phase is Phase.DEAD and part.restarts + 1 >= settings.deaths_to_fail:
            return f"the {part.name} keeps dying: {part.message}"
    return ""
