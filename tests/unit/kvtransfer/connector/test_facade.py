"""What vLLM tells the connector, and what ranks tell, comes through vLLM's own code."""

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.kvtransfer.parallel_configs import Parallel

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


class FakeWorkerSide:
    """Notes whether its engine was idle when it was asked for results."""

    def __init__(self) -> None:
        self.idle: list[bool] = []

    def register(self, caches: object) -> None: ...

    def carry_out(self, orders: object) -> None: ...

    def take_results(self, *, idle: bool) -> Any:
        from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorTransferResults

        self.idle.append(idle)
        return KVConnectorTransferResults(finished_sending=set(), finished_recving=set())

    def take_failed_blocks(self) -> set[int]:
        return set()

    def take_pulled(self) -> list[Any]:
        return []

    def take_stats(self) -> None: ...


def config(*, caches: bool = True) -> Any:
    """What the connector and forward contexts read of vLLM's."""
    own = {"host": "127.0.0.1", "port": 7000}
    return SimpleNamespace(
        model_config=SimpleNamespace(use_mla=False),
        cache_config=SimpleNamespace(enable_prefix_caching=caches),
        kv_transfer_config=SimpleNamespace(engine_id="e:1", kv_connector_extra_config=own),
        parallel_config=SimpleNamespace(
            **vars(Parallel()), use_sequence_parallel_moe=False, is_moe_model=False
        ),
        compilation_config=SimpleNamespace(fast_moe_cold_start=False, static_forward_context={}),
    )


def connector(*, caches: bool = True) -> Any:
    """The scheduler's side, and a fake of a rank's in the same object."""
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

    from twofold_kvtransfer.connector.facade import TwofoldConnector

    group = SimpleNamespace(kv_cache_spec=FullAttentionSpec(16))
    cache: Any = SimpleNamespace(kv_cache_groups=[group])
    made: Any = TwofoldConnector(config(caches=caches), KVConnectorRole.SCHEDULER, cache)
    made._worker = FakeWorkerSide()
    return made


@dataclass
class FullAttentionSpec:
    """Known by its name."""

    block_size: int


def step(made: Any, token_count: int) -> Any:
    """Have vLLM's scheduler order a step of so many tokens."""
    output = SimpleNamespace(
        total_num_scheduled_tokens=token_count, has_sync_kv_loads=False, finished_req_ids=set()
    )
    output.kv_connector_metadata = made.build_connector_meta(output)
    return output


@pytest.mark.parametrize("role", ["SCHEDULER", "WORKER"])
@pytest.mark.parametrize(("uses_mla", "group_count"), [(True, 1), (False, 2)])
def test_an_engine_of_a_model_that_is_not_moved_has_no_connector(
    role: str, uses_mla: bool, group_count: int
) -> None:
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

    from twofold_kvtransfer.connector.cache_layout import UnsupportedCacheError
    from twofold_kvtransfer.connector.facade import TwofoldConnector

    given = config()
    given.model_config.use_mla = uses_mla
    groups = [SimpleNamespace(kv_cache_spec=FullAttentionSpec(16))] * group_count
    cache: Any = SimpleNamespace(kv_cache_groups=groups)

    with pytest.raises(UnsupportedCacheError, match="connector: nixl"):
        TwofoldConnector(given, KVConnectorRole[role], cache)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A connector that vLLM's model runners find."""
    from vllm.distributed.kv_transfer import kv_transfer_state

    made = connector()
    monkeypatch.setattr(kv_transfer_state, "_KV_CONNECTOR_AGENT", made)
    return made


@pytest.mark.parametrize("keeps_context", [True, False])
def test_model_runner_2_takes_an_engine_for_idle_only_without_tokens(
    agent: Any, *, keeps_context: bool
) -> None:
    from vllm.forward_context import set_forward_context
    from vllm.v1.worker.gpu.kv_connector import ActiveKVConnector

    runner = ActiveKVConnector(config(), {})
    # A step that replays a whole graph has no forward context; no step has one when it samples.
    context = set_forward_context({"layer": 1}, config()) if keeps_context else nullcontext()
    with context:
        runner.pre_forward(step(agent, 1))
    runner.finish_forward()
    runner.post_forward(set())
    runner.no_forward(step(agent, 0))

    assert agent._worker.idle == [False, True]


def test_model_runner_1_takes_an_engine_for_idle_only_without_tokens(agent: Any) -> None:
    from vllm.forward_context import set_forward_context
    from vllm.v1.worker.kv_connector_model_runner_mixin import KVConnectorModelRunnerMixin

    with (
        set_forward_context({"layer": 1}, config()),
        KVConnectorModelRunnerMixin.maybe_get_kv_connector_output(step(agent, 1)),
    ):
        pass
    KVConnectorModelRunnerMixin.kv_connector_no_forward(step(agent, 0), config())

    assert agent._worker.idle == [False, True]


@pytest.mark.parametrize("caches", [True, False])
def test_only_an_engine_with_a_prefix_cache_pulls_into_it_and_shows_it(*, caches: bool) -> None:
    from vllm.v1.core.block_pool import BlockPool

    made = connector(caches=caches)
    made.bind_gpu_block_pool(BlockPool(8, enable_caching=caches, hash_block_size=16))
    source = {"engine_id": "p:1", "host": "10.0.0.9", "port": 7000, "tokens": 32}
    request = SimpleNamespace(
        request_id="r",
        kv_transfer_params={"prefix_source": source | {"seconds_per_token": 1.0}},
        num_prompt_tokens=64,
        block_hashes=[b"0", b"1", b"2", b"3"],
        skip_reading_prefix_cache=False,
    )
    made.on_new_request(request)

    assert made.get_num_new_matched_tokens(request, 0) == ((None, False) if caches else (0, False))
    assert (made._shelf is not None) == caches
