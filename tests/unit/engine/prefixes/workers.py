"""Workers as they announce themselves, for whoever asks about prefixes."""

from typing import Any

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Engine, Worker

P0, D0 = WorkerId("p-0"), WorkerId("d-0")


def a_worker(worker_id: WorkerId, **fields: Any) -> Worker:
    """Return a worker of one rank with our connector, with *fields* as they are given."""
    described: dict[str, Any] = {
        "incarnation": Incarnation("1"),
        "service": "local",
        "role": Role.PREFILL,
        "revision": "1",
        "address": "http://127.0.0.1:1",
        "model": "m",
        "engine": Engine("v", "c"),
        "kv_capacity_tokens": 640,
        "kv_block_tokens": 16,
        "max_model_tokens": 1,
        "kv_events": "tcp://127.0.0.1:1",
        "kv_transfer": "127.0.0.1:7000",
        "kv_side_channel": "127.0.0.1:1",
    }
    return Worker(worker_id=worker_id, **described | fields)
