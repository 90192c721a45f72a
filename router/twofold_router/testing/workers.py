"""Workers as they announce themselves, without anything behind them."""

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Engine, Worker, WorkerState

MODEL = "fake-model"


def make_worker(
    worker_id: str,
    role: Role,
    *,
    address: str = "http://127.0.0.1:1",
    incarnation: str = "1",
    revision: str = "r1",
    compatibility: str = "c1",
    model: str = MODEL,
    service: str = "fake-service",
    capacity: int = 100_000,
    adapters: tuple[str, ...] = (),
    state: WorkerState = WorkerState.READY,
    tensor_parallel: int = 1,
    side_channel: str = "",
) -> Worker:
    """Make an idle worker."""
    return Worker(
        worker_id=WorkerId(worker_id),
        incarnation=Incarnation(incarnation),
        service=service,
        role=role,
        revision=revision,
        address=address,
        model=model,
        engine=Engine("0", compatibility, tensor_parallel),
        kv_capacity_tokens=capacity,
        kv_block_tokens=16,
        max_model_tokens=8192,
        kv_side_channel=side_channel,
        adapters=adapters,
        state=state,
    )
