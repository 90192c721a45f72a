"""What happens to requests becomes orders, each once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.kvtransfer.pools import FakePool

from twofold_kvtransfer.connector.orders import Fetch, Orders
from twofold_kvtransfer.connector.scheduler_side import SchedulerSide
from twofold_kvtransfer.prefixes import PARAM, Outcome, PrefixSource, Pull, Pulled
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.sources import Source, from_params, to_params

SETTINGS = ConnectorSettings(host="10.0.0.1", port=5600)
SOURCE = Source("prefill-0:1", "cmpl-1", "10.0.0.9", 5700, 1, (4, 5, 6))

ASKED_FOR_BLOCKS = {"do_remote_decode": True, "do_remote_prefill": False}

PREFIX: dict[str, Any] = {
    "engine_id": "prefill-1:1",
    "host": "10.0.0.8",
    "port": 5700,
    "tokens": 8,
    "seconds_per_token": 0.001,
}


@dataclass
class FakeRequest:
    """What the connector reads of vLLM's request."""

    request_id: str = "r"
    kv_transfer_params: dict[str, Any] | None = None
    num_prompt_tokens: int = 300
    num_computed_tokens: int = 300
    block_hashes: Sequence[bytes] = (b"0", b"1", b"2")
    skip_reading_prefix_cache: bool | None = None


@dataclass
class FakeBlocks:
    ids: list[int] = field(default_factory=lambda: [7, 8, 9])

    def get_block_ids(self) -> tuple[list[int], ...]:
        return (self.ids,)


@pytest.fixture
def side() -> SchedulerSide:
    return SchedulerSide("decode-0:1", SETTINGS, tensor_parallel=1, block_tokens=128)


def remote(params: dict[str, Any] | None = None) -> FakeRequest:
    return FakeRequest(kv_transfer_params=params or to_params(SOURCE, 300))


def test_an_ordinary_request_fetches_nothing_and_leaves_nothing(side: SchedulerSide) -> None:
    request = FakeRequest()

    side.note_arrival(request)
    count = side.count_remote_tokens(request, 0)
    side.note_blocks(request, FakeBlocks(), 0)

    assert count == 0
    assert side.note_end(request, [1, 2], complete=True) == (False, None)
    assert side.take_orders() == Orders()


def test_a_waiting_request_has_its_lease_kept(side: SchedulerSide) -> None:
    side.note_arrival(remote())

    assert side.take_orders() == Orders(awaited=[SOURCE])
    assert side.take_orders() == Orders()


def test_what_is_not_cached_here_is_fetched_into_the_new_blocks(side: SchedulerSide) -> None:
    request = remote()
    side.note_arrival(request)
    side.take_orders()

    count = side.count_remote_tokens(request, 128)
    assert count is not None
    side.note_blocks(request, FakeBlocks([7, 8, 9]), count)

    assert count == 300 - 128
    assert side.take_orders() == Orders(fetches=[Fetch("r", SOURCE, (8, 9))])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # vLLM imports such parts of torch
@pytest.mark.parametrize(("computed", "local"), [(0, (7, 8, 9)), (128, (8, 9))])
def test_blocks_are_fetched_by_their_places_whatever_names_they_have(
    side: SchedulerSide, computed: int, local: tuple[int, ...]
) -> None:
    """As in vLLM's pool without a prefix cache, which takes no names off."""
    manager = pytest.importorskip("vllm.v1.core.kv_cache_manager")
    utils = pytest.importorskip("vllm.v1.core.kv_cache_utils")
    blocks = [utils.KVCacheBlock(block_id) for block_id in (7, 8, 9)]
    blocks[1].set_block_hash(utils.make_block_hash_with_group_id(b"1", 0))
    request = remote()
    side.note_arrival(request)
    side.take_orders()

    side.note_blocks(request, manager.KVCacheBlocks((blocks,)), 300 - computed)

    assert side.take_orders() == Orders(fetches=[Fetch("r", SOURCE, local)])


def test_blocks_are_fetched_once_even_if_the_request_is_preempted(side: SchedulerSide) -> None:
    request = remote()
    side.note_arrival(request)
    side.note_blocks(request, FakeBlocks(), 300)
    side.take_orders()

    assert side.count_remote_tokens(request, 0) == 0
    side.note_blocks(request, FakeBlocks(), 0)
    assert side.take_orders() == Orders()


def test_a_prompt_that_is_all_cached_here_gives_the_lease_back(side: SchedulerSide) -> None:
    request = remote()
    side.note_arrival(request)
    side.take_orders()

    side.note_blocks(request, FakeBlocks(), 0)

    assert side.take_orders() == Orders(abandoned=[SOURCE])


def test_a_request_that_ends_before_its_turn_gives_the_lease_back(side: SchedulerSide) -> None:
    request = remote()
    side.note_arrival(request)
    side.take_orders()

    assert side.note_end(request, [], complete=False) == (False, None)
    assert side.take_orders() == Orders(abandoned=[SOURCE])


def test_params_that_name_no_blocks_make_a_fetch_that_fails(side: SchedulerSide) -> None:
    request = remote(to_params(SOURCE, 300) | {"remote_host": None})
    side.note_arrival(request)

    count = side.count_remote_tokens(request, 0)
    assert count is not None
    side.note_blocks(request, FakeBlocks(), count)

    assert count == 300, "it must not be computed here unseen"
    assert side.take_orders() == Orders(fetches=[Fetch("r", None, (7, 8, 9))])


@pytest.mark.parametrize(
    ("blocks", "tokens"), [((), 300), ((4, 5), 300), ((3, 4, 5, 6), 300), ((4, 5, 6), 299)]
)
def test_blocks_of_another_length_than_the_prompt_make_a_fetch_that_fails(
    side: SchedulerSide, blocks: tuple[int, ...], tokens: int
) -> None:
    other = Source("prefill-0:1", "cmpl-1", "10.0.0.9", 5700, 1, blocks)
    request = remote(to_params(other, tokens))
    side.note_arrival(request)

    side.note_blocks(request, FakeBlocks(), 300)

    assert side.take_orders() == Orders(fetches=[Fetch("r", None, (7, 8, 9))])


def test_blocks_for_proposed_tokens_are_not_fetched(side: SchedulerSide) -> None:
    request = remote()
    side.note_arrival(request)
    side.take_orders()

    side.note_blocks(request, FakeBlocks([7, 8, 9, 10]), 300 - 128)

    assert side.take_orders() == Orders(fetches=[Fetch("r", SOURCE, (8, 9))])


def test_a_finished_leg_1_keeps_its_blocks_and_says_where_they_are(side: SchedulerSide) -> None:
    request = FakeRequest(kv_transfer_params=dict(ASKED_FOR_BLOCKS))
    side.note_arrival(request)
    side.note_blocks(request, FakeBlocks(), 0)

    keeps, params = side.note_end(request, [7, 8, 9], complete=True)

    assert keeps
    assert params is not None
    assert from_params(params) == Source("decode-0:1", "r", "10.0.0.1", 5600, 1, (7, 8, 9))
    assert side.take_orders() == Orders(promised=["r"], granted={"r": 3})


def test_a_finished_leg_1_names_no_blocks_for_proposed_tokens(side: SchedulerSide) -> None:
    request = FakeRequest(kv_transfer_params=dict(ASKED_FOR_BLOCKS), num_computed_tokens=302)

    _, params = side.note_end(request, [7, 8, 9, 10], complete=True)

    assert params is not None
    assert from_params(params).blocks == (7, 8, 9)
    assert params["remote_num_tokens"] == 300


@pytest.mark.parametrize(("complete", "blocks"), [(False, [7]), (True, [])])
def test_a_leg_1_without_a_result_keeps_nothing(
    side: SchedulerSide, complete: bool, blocks: list[int]
) -> None:
    request = FakeRequest(kv_transfer_params=dict(ASKED_FOR_BLOCKS))
    side.note_blocks(request, FakeBlocks(), 0)

    assert side.note_end(request, blocks, complete=complete) == (False, None)
    assert side.take_orders() == Orders(promised=["r"], withdrawn=["r"])


@pytest.fixture
def pulling(side: SchedulerSide) -> SchedulerSide:
    side.bind_pool(FakePool(10), may_pull=True)
    return side


def with_prefix(params: dict[str, Any]) -> FakeRequest:
    return FakeRequest(kv_transfer_params=params | {PARAM: PREFIX})


def test_a_leg_1_waits_for_its_prefix_and_says_what_was_pulled(pulling: SchedulerSide) -> None:
    request = with_prefix(ASKED_FOR_BLOCKS)
    pulling.note_arrival(request)

    assert pulling.count_remote_tokens(request, 0) is None
    is_pulling = [pulling.is_pulling]
    (pull,) = pulling.take_orders().pulls
    assert (pull.names, pull.local) == ((b"0", b"1"), (1, 2))
    assert pulling.take_orders().is_empty
    agreed = pulling.note_pulled([(0, Pulled("r", Outcome.PULLED, 2, 0.25))])
    assert agreed == [Pulled("r", Outcome.PULLED, 2, 0.25)]
    is_pulling.append(pulling.is_pulling)

    assert is_pulling == [True, False]
    assert pulling.count_remote_tokens(request, 8) == 0
    pulling.note_blocks(request, FakeBlocks(), 0)
    _, params = pulling.note_end(request, [1, 2, 3], complete=True)
    assert params is not None
    assert (params["prefix_tokens"], params["prefix_seconds"]) == (8, 0.25)
    assert from_params(params).blocks == (1, 2, 3)


def test_of_a_prefix_that_was_not_pulled_nothing_is_said(pulling: SchedulerSide) -> None:
    request = with_prefix(ASKED_FOR_BLOCKS)
    pulling.note_arrival(request)
    pulling.count_remote_tokens(request, 0)
    pulling.note_pulled([(0, Pulled("r", Outcome.ABSENT))])

    assert pulling.count_remote_tokens(request, 0) == 0
    _, params = pulling.note_end(request, [1], complete=True)
    assert params is not None
    assert not {"prefix_tokens", "prefix_seconds"} & params.keys()


def test_an_engine_without_a_pool_of_its_own_pulls_nothing(side: SchedulerSide) -> None:
    request = with_prefix(ASKED_FOR_BLOCKS)
    side.note_arrival(request)

    assert side.count_remote_tokens(request, 0) == 0
    assert not side.is_pulling
    assert side.take_orders() == Orders()
    assert side.note_end(request, [1], complete=True)[0]


def test_a_request_whose_blocks_are_elsewhere_pulls_no_prefix(pulling: SchedulerSide) -> None:
    request = with_prefix(to_params(SOURCE, 300))
    pulling.note_arrival(request)

    assert pulling.count_remote_tokens(request, 0) == 300
    assert pulling.take_orders() == Orders(awaited=[SOURCE])


def test_a_request_that_ends_while_it_waits_drops_its_pull(pulling: SchedulerSide) -> None:
    request = with_prefix(ASKED_FOR_BLOCKS)
    pulling.note_arrival(request)
    pulling.count_remote_tokens(request, 0)
    pulling.take_orders()

    assert pulling.note_end(request, [], complete=False) == (False, None)
    orders = pulling.take_orders()

    assert orders == Orders(withdrawn=["r"], dropped_pulls=["r"])
    assert not orders.is_empty
    assert pulling.is_pulling, "until its blocks are written no more"
    pulling.note_pulled([(0, Pulled("r", Outcome.LATE))])
    assert pulling.take_orders().is_empty


def test_of_several_ranks_what_all_have_pulled_is_cached_when_all_have_told() -> None:
    side = SchedulerSide("decode-0:1", SETTINGS, tensor_parallel=2, block_tokens=16)
    side.bind_pool(FakePool(10), may_pull=True)
    request = with_prefix(ASKED_FOR_BLOCKS)
    side.note_arrival(request)
    side.count_remote_tokens(request, 0)
    side.take_orders()

    assert side.note_pulled([(1, Pulled("r", Outcome.PULLED, 2, 0.5))]) == []
    is_pulling = [side.is_pulling]
    assert side.count_remote_tokens(request, 0) is None
    agreed = side.note_pulled([(0, Pulled("r", Outcome.PULLED, 1, 0.25))])
    is_pulling.append(side.is_pulling)

    assert agreed == [Pulled("r", Outcome.PULLED, 1, 0.5)]
    assert is_pulling == [True, False]
    assert side.count_remote_tokens(request, 4) == 0
    assert side.take_orders().is_empty
    _, params = side.note_end(request, [1, 2, 3], complete=True)
    assert params is not None
    assert (params["prefix_tokens"], params["prefix_seconds"]) == (4, 0.5)


def test_a_pull_that_failed_in_one_rank_is_dropped_in_the_others_which_may_still_write() -> None:
    side = SchedulerSide("decode-0:1", SETTINGS, tensor_parallel=3, block_tokens=16)
    pool = FakePool(10)
    side.bind_pool(pool, may_pull=True)
    request = with_prefix(ASKED_FOR_BLOCKS)
    side.note_arrival(request)
    side.count_remote_tokens(request, 0)
    side.take_orders()
    free = pool.get_num_free_blocks()

    side.note_pulled([(2, Pulled("r", Outcome.LATE)), (0, Pulled("r", Outcome.PULLED, 2))])
    assert side.take_orders() == Orders(dropped_pulls=["r"])
    assert pool.get_num_free_blocks() == free
    assert side.count_remote_tokens(request, 0) is None
    agreed = side.note_pulled([(1, Pulled("r", Outcome.DROPPED))])

    assert agreed == [Pulled("r", Outcome.LATE)]
    assert side.take_orders().is_empty
    assert pool.get_num_free_blocks() == free + 2
    assert side.count_remote_tokens(request, 0) == 0


def test_a_pull_or_its_drop_alone_is_an_order() -> None:
    source = PrefixSource(**PREFIX)

    assert not Orders(pulls=[Pull("r", source, (b"0",), (1,), 4)]).is_empty
    assert not Orders(dropped_pulls=["r"]).is_empty
