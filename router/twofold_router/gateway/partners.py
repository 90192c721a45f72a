"""Who can read, and so free, the blocks that a prefill worker keeps."""

from collections.abc import Iterable

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement.accounts import party_of


def partner_of(
    workers: Iterable[Worker], prefill: Worker, avoid: frozenset[WorkerId]
) -> Worker | None:
    """Return the first of *workers* that is ready, decodes for *prefill*, and is not in *avoid*."""
    excluded = avoid | {prefill.worker_id}
    for worker in workers:
        is_able = worker.role.decodes and worker.state is WorkerState.READY
        if is_able and worker.worker_id not in excluded and party_of(worker) == party_of(prefill):
            return worker
    return None
