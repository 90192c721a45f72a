"""Who can read, and so free, the blocks that a prefill worker keeps."""

from collections.abc import Iterable

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement.accounts import party_of


def partner_of(
    workers: Iterable[Worker], prefill: Worker, name: str, avoid: frozenset[WorkerId]
) -> Worker | None:
    """Return the first of *workers* that decodes what *prefill* computed for *name*, and is neither
    draining nor in *avoid*."""
    excluded = avoid | {prefill.worker_id}
    party = party_of(prefill, name)
    for worker in workers:
        is_able = worker.role.decodes and worker.state is not WorkerState.DRAINING
        is_able = is_able and name in worker.names and party_of(worker, name) == party
        if is_able and worker.worker_id not in excluded:
            return worker
    return None
