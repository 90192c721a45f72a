"""Where Prometheus finds the workers' own metrics (its HTTP service discovery).

Engines listen on ports that they choose, so that no selector of pods can name them; the routers
know each of them.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from twofold_cluster.worker import Worker


def targets(workers: Iterable[Worker]) -> list[dict[str, Any]]:
    """Return *workers* as Prometheus reads them, in the order of their ids."""
    return [
        {"targets": [urlsplit(worker.address).netloc], "labels": _labels(worker)}
        for worker in sorted(workers, key=lambda worker: worker.worker_id)
    ]


def _labels(worker: Worker) -> dict[str, str]:
    # In Kubernetes a service is called NAMESPACE.NAME, and a namespace has no dot in it.
    namespace, dot, name = worker.service.partition(".")
    place = {"namespace": namespace, "service": name} if dot else {"service": worker.service}
    return {
        **place,
        "worker": worker.worker_id,
        "role": worker.role.value,
        "revision": worker.revision,
    }
