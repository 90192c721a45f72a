"""Where a worker and its engine's ranks are asked over gRPC.

A worker announces where its first rank answers; the other ranks have the ports that follow, and the
worker itself has the one after the last rank's.
"""

from twofold_cluster.worker import Worker


def rank_address(worker: Worker, rank: int) -> str:
    """Return where *rank* of the engine of *worker* serves ``KvTransfer``, as ``host:port``."""
    host, _, port = worker.kv_transfer.rpartition(":")
    return f"{host}:{int(port) + rank}"


def prefixes_address(worker: Worker) -> str:
    """Return where *worker* serves ``Prefixes``, as ``host:port``."""
    return rank_address(worker, worker.engine.tensor_parallel)
