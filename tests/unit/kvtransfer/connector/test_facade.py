"""What ranks tell comes through vLLM's own aggregator."""

from typing import Any

import pytest

pytest.importorskip("vllm")

# vLLM imports parts of torch that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def output(metadata: Any) -> Any:
    from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput

    connected = KVConnectorOutput(kv_connector_worker_meta=metadata)
    return ModelRunnerOutput(req_ids=[], req_id_to_index={}, kv_connector_output=connected)


def test_what_ranks_tell_in_a_step_is_put_together() -> None:
    from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator

    from twofold_kvtransfer.connector.facade import WorkerMetadata
    from twofold_kvtransfer.prefixes import Outcome, Pulled

    here, late = Pulled("r", Outcome.PULLED, 3), Pulled("r", Outcome.LATE)
    outputs = [
        output(WorkerMetadata(7, ((0, here),))),
        output(WorkerMetadata(7, ())),
        output(WorkerMetadata(7, ((2, late),))),
    ]

    joined = KVOutputAggregator(3).aggregate(outputs)

    assert joined is not None
    assert joined.kv_connector_output is not None
    told = joined.kv_connector_output.kv_connector_worker_meta
    assert told == WorkerMetadata(7, ((0, here), (2, late)))


def test_ranks_are_not_put_together_over_steps() -> None:
    from twofold_kvtransfer.connector.facade import WorkerMetadata

    with pytest.raises(AssertionError):
        WorkerMetadata(7, ()).aggregate(WorkerMetadata(8, ()))
