"""Where the KV events of a worker are to be had."""

from dataclasses import dataclass

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.worker import Worker


@dataclass(frozen=True, slots=True)
class Source:
    """Where one incarnation of a worker publishes, and where it replays, if anywhere."""

    worker_id: WorkerId
    incarnation: Incarnation
    endpoint: str
    replay_endpoint: str


def source_of(worker: Worker) -> Source | None:
    """Return where *worker* publishes; None if it does not."""
    if not worker.kv_events:
        return None
    return Source(worker.worker_id, worker.incarnation, worker.kv_events, worker.kv_events_replay)
