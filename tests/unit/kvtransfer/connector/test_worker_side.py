"""A rank's side of the connector, before any block has moved."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from twofold_kvtransfer.connector.cache_layout import UnsupportedCacheError
from twofold_kvtransfer.connector.orders import Fetch, Orders
from twofold_kvtransfer.loading import Load
from twofold_kvtransfer.prefixes import PrefixRead
from twofold_kvtransfer.receiving import Failure, Reception
from twofold_kvtransfer.sources import Source

pytest.importorskip("vllm")

# vLLM imports parts of torch that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The ranks whose nodes were started; their hashes are the attention that is hashed."""
    from twofold_kvtransfer.connector import worker_side

    ranks: list[Any] = []

    class FakeNode:
        def __init__(self, rank: Any, *args: object, **kwargs: object) -> None:
            self._rank = rank

        def start(self) -> None:
            ranks.append(self._rank)

        def order(self, work: object) -> None: ...

        load = Load()

        def take_ended(self) -> list[Any]:
            return []

        def take_prefix_reads(self) -> list[PrefixRead]:
            return [PrefixRead(100, 0.5)]

        def take_received(self) -> list[Reception]:
            return [Reception("here", None, 100, 0.5), Reception("damaged", Failure.INTEGRITY)]

    monkeypatch.setattr(worker_side, "get_tensor_model_parallel_rank", lambda: 0)
    monkeypatch.setattr(worker_side, "attention_of", lambda _, layers: ["FLASH_ATTN", *layers])
    monkeypatch.setattr(worker_side, "compatibility", lambda *_, attention: "/".join(attention))
    monkeypatch.setattr(worker_side.WorkerSide, "_transport", lambda *_: None)
    monkeypatch.setattr(worker_side, "Node", FakeNode)
    return ranks


def side(layout: str) -> Any:
    """Return that of an engine whose cache vLLM has laid out as *layout*."""
    from vllm.v1.kv_cache_layout import KVCacheLayout

    from twofold_kvtransfer.connector.worker_side import WorkerSide
    from twofold_kvtransfer.settings import ConnectorSettings

    config: Any = SimpleNamespace(
        cache_config=SimpleNamespace(get_resolved_kv_cache_layout=lambda: KVCacheLayout[layout]),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, world_size=1),
        kv_transfer_config=SimpleNamespace(engine_id="e:1"),
    )
    cache: Any = SimpleNamespace(num_blocks=5)
    return WorkerSide(config, cache, ConnectorSettings(host="127.0.0.1", port=7000))


def test_a_cache_in_another_layout_than_was_asked_for_is_not_lent(started: list[Any]) -> None:
    # As vLLM shows it, (blocks, heads, tokens, content): its bytes are together in either layout.
    tensor = torch.zeros(5, 4, 2, 6).transpose(1, 2)

    with pytest.raises(UnsupportedCacheError, match=r"LBNHC.*connector: nixl"):
        side("LBNHC").register({"layers.0": tensor})
    assert started == []


def test_peers_compare_by_which_attention_the_layers_are_read(started: list[Any]) -> None:
    side("LBHNC").register({"layers.0": torch.zeros(5, 2, 4, 6)})

    assert [rank.compatibility for rank in started] == ["FLASH_ATTN/layers.0"]


@pytest.mark.usefixtures("started")
def test_a_fetch_that_failed_is_told_by_its_request_and_by_its_blocks() -> None:
    rank = side("LBHNC")
    rank.register({"layers.0": torch.zeros(5, 2, 4, 6)})
    source = Source(
        engine_id="p:1", request_id="q", host="h", port=1, tensor_parallel=1, blocks=(0, 1)
    )
    fetches = [
        Fetch("here", source, (0, 1)),
        Fetch("damaged", source, (2, 3)),
        Fetch("sourceless", None, (4,)),
    ]
    rank.carry_out(Orders(fetches=fetches))

    results = rank.take_results(idle=False)

    assert results.finished_recving == {"here", "damaged", "sourceless"}
    assert results.failed_recving == {"damaged", "sourceless"}
    assert rank.take_failed_blocks() == {2, 3, 4}


@pytest.mark.usefixtures("started")
def test_what_a_rank_has_read_of_prefixes_is_among_its_stats() -> None:
    rank = side("LBHNC")
    rank.register({"layers.0": torch.zeros(5, 2, 4, 6)})

    stats = rank.take_stats()

    assert stats is not None
    assert stats.data["prefix_reads"] == [(100, 0.5)]
