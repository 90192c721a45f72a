"""The workers of a layout in virtual time, of one or two kinds of engines."""

from collections.abc import Hashable, Sequence

import msgspec

from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker
from twofold_sim.planning.layout import Layout
from twofold_sim.virtual import EngineCluster, Setup
from twofold_sim.virtual.cluster import Cluster
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.routing import Router
from twofold_sim.virtual.worker import Leg
from twofold_sim.workloads import Prompt


class LayoutFleet:
    """Implements Fleet: a cluster for each role, before the same router."""

    def __init__(self, layout: Layout, setup: Setup, router: Router, events: EventQueue) -> None:
        parts = parts_of(layout)
        self._clusters = {
            role: Cluster(msgspec.structs.replace(setup, cluster=part), [router], events)
            for role, part in parts.items()
        }
        self._any = next(iter(self._clusters.values()))

    def ask(self, worker: Worker, leg: Leg, now: float) -> None:
        self._clusters[worker.role].ask(worker, leg, now)

    def block_ids(self, prompt: Prompt, number: int, generated_tokens: int) -> Sequence[Hashable]:
        return self._any.block_ids(prompt, number, generated_tokens)


def parts_of(layout: Layout) -> dict[Role, EngineCluster]:
    """Return the workers of each role; those that generate come last."""
    prefill, decode = layout.pairing.prefill, layout.pairing.decode
    if prefill is None:
        return {Role.BOTH: EngineCluster(profile=decode, both=layout.decode_count)}
    return {
        Role.PREFILL: EngineCluster(profile=prefill, prefill=layout.prefill_count),
        Role.DECODE: EngineCluster(profile=decode, decode=layout.decode_count),
    }
