"""Requests wait for their prefix, which is cached once, and no block is ever lost."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.unit.kvtransfer.pools import BLOCK_TOKENS, FakePool

from twofold_cluster.legs import FOLLOW_LIMIT_SECONDS
from twofold_kvtransfer.connector.prefix_pulls import PrefixPulls
from twofold_kvtransfer.prefixes import (
    PARAM,
    Outcome,
    PrefixSource,
    Pull,
    Pulled,
)
from twofold_kvtransfer.pulling import LEAST_SECONDS

SOURCE = PrefixSource(
    engine_id="p:1", host="10.0.0.9", port=5600, tokens=1000, seconds_per_token=0.001
)


@dataclass
class FakeRequest:
    """What is read of vLLM's request: a prompt of four tokens a block, and one more."""

    request_id: str = "r"
    block_hashes: Sequence[bytes] = (b"0", b"1", b"2", b"3")
    kv_transfer_params: dict[str, Any] | None = None
    num_prompt_tokens: int = 0
    skip_reading_prefix_cache: bool | None = None

    def __post_init__(self) -> None:
        self.num_prompt_tokens = self.num_prompt_tokens or BLOCK_TOKENS * len(self.block_hashes) + 1


@dataclass
class Rig:
    pool: FakePool = field(default_factory=lambda: FakePool(10))
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.pulls = PrefixPulls(self.pool, clock=lambda: self.now)

    def arrived(self, tokens: int = 1000, *, follow: bool = False, **fields: Any) -> FakeRequest:
        named = {PARAM: params_of(tokens) | {"follow": follow}}
        request = FakeRequest(**({"kv_transfer_params": named} | fields))
        self.pulls.note_arrival(request)
        return request

    def ordered(self) -> Pull:
        (order,), _ = self.pulls.take_orders()
        return order

    def is_cached(self, *names: bytes) -> list[bool]:
        return [bool(self.pool.get_cached_block(name, [0])) for name in names]


def params_of(tokens: int) -> dict[str, Any]:
    return {
        "engine_id": SOURCE.engine_id,
        "host": SOURCE.host,
        "port": SOURCE.port,
        "tokens": tokens,
        "seconds_per_token": SOURCE.seconds_per_token,
    }


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_request_that_names_a_source_waits_for_its_pull(rig: Rig) -> None:
    request = rig.arrived()

    assert rig.pulls.waits(request, 0)
    assert rig.pulls.is_pulling
    assert rig.ordered() == Pull("r", SOURCE, (b"0", b"1", b"2", b"3"), (1, 2, 3, 4), BLOCK_TOKENS)
    assert rig.pulls.waits(request, 0)
    assert rig.pulls.take_orders() == ([], [])
    assert rig.pool.get_num_free_blocks() == 5


def test_what_was_pulled_is_cached_under_its_names_and_used_by_nobody(rig: Rig) -> None:
    request = rig.arrived()
    rig.pulls.waits(request, 0)

    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 3, 0.5))

    cached = [rig.pool.get_cached_block(name, [0]) for name in request.block_hashes]
    assert [found and found[0].block_id for found in cached] == [1, 2, 3, None]
    assert rig.pool.get_num_free_blocks() == 9
    assert not rig.pulls.is_pulling
    assert not rig.pulls.waits(request, 12), "each is tried once"
    assert rig.pulls.note_end(request) == {"prefix_tokens": 12, "prefix_seconds": 0.5}
    assert rig.pulls.note_end(request) == {}


def test_of_what_was_pulled_the_end_of_the_prompt_is_evicted_first(rig: Rig) -> None:
    rig.pulls.waits(rig.arrived(), 0)
    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 3, 0.5))

    rig.pool.get_new_blocks(7)

    assert rig.is_cached(b"0", b"1", b"2") == [True, True, False]


@pytest.mark.parametrize("outcome", set(Outcome) - {Outcome.PULLED})
def test_a_pull_that_failed_leaves_nothing_behind(rig: Rig, outcome: Outcome) -> None:
    request = rig.arrived()
    rig.pulls.waits(request, 0)

    rig.pulls.note_pulled(Pulled("r", outcome))

    assert rig.is_cached(*request.block_hashes) == [False] * 4
    assert rig.pool.get_num_free_blocks() == 9
    assert not rig.pulls.waits(request, 0)
    assert rig.pulls.note_end(request) == {}


def test_what_is_cached_here_is_not_pulled(rig: Rig) -> None:
    request = rig.arrived()
    rig.pool.hold(request.block_hashes[:2])

    assert rig.pulls.waits(request, 8)

    assert rig.ordered().names == (b"2", b"3")
    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 2, 0.5))
    assert rig.is_cached(*request.block_hashes) == [True] * 4
    assert rig.pulls.note_end(request)["prefix_tokens"] == 8


def test_a_pull_does_not_evict_the_beginning_of_its_own_prompt() -> None:
    rig = Rig(FakePool(9))
    request = rig.arrived()
    rig.pool.hold(request.block_hashes[:2])
    rig.pool.hold([b"x", b"y", b"z", b"u", b"v", b"w"])  # so these two are the first to go

    rig.pulls.waits(request, 8)

    assert rig.is_cached(*request.block_hashes[:2]) == [True, True]


@pytest.mark.parametrize(
    ("tokens", "prompt_tokens", "count"),
    [
        (BLOCK_TOKENS - 1, 17, 0),
        (BLOCK_TOKENS, 17, 1),
        (2 * BLOCK_TOKENS + 3, 17, 2),
        (1000, 17, 4),
        (1000, 16, 3),  # the last token has to be computed
        (1000, 1, 0),
    ],
)
def test_whole_blocks_are_pulled_but_the_last_token_is_computed(
    rig: Rig, tokens: int, prompt_tokens: int, count: int
) -> None:
    request = rig.arrived(tokens, num_prompt_tokens=prompt_tokens)

    assert rig.pulls.waits(request, 0) == (count > 0)
    assert [len(pull.names) for pull in rig.pulls.take_orders()[0]] == [count] * (count > 0)


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {PARAM: None},
        {PARAM: {"engine_id": "p:1"}},
        {PARAM: params_of(1000) | {"port": 0}},
    ],
)
def test_a_request_that_names_no_source_does_not_wait(
    rig: Rig, params: dict[str, Any] | None
) -> None:
    request = rig.arrived(kv_transfer_params=params)

    assert not rig.pulls.waits(request, 0)
    assert rig.pulls.take_orders() == ([], [])


def test_a_request_that_may_not_read_the_cache_pulls_nothing_into_it(rig: Rig) -> None:
    request = rig.arrived(skip_reading_prefix_cache=True)

    assert not rig.pulls.waits(request, 0)
    assert rig.pool.get_num_free_blocks() == 9


@pytest.mark.parametrize(("free", "pulled"), [(9, 4), (8, 4), (7, 3), (2, 1), (1, 0), (0, 0)])
def test_a_pull_takes_no_more_than_half_of_the_free_blocks(
    rig: Rig, free: int, pulled: int
) -> None:
    rig.pool.get_new_blocks(9 - free)
    request = rig.arrived()

    assert rig.pulls.waits(request, 0) == (pulled > 0)
    assert rig.pool.get_num_free_blocks() == free - pulled
    names = [pull.names for pull in rig.pulls.take_orders()[0]]
    assert names == [request.block_hashes[:pulled]] * (pulled > 0)


def test_a_request_that_ends_before_it_was_asked_for_pulls_nothing(rig: Rig) -> None:
    request = rig.arrived()

    assert rig.pulls.note_end(request) == {}
    assert not rig.pulls.waits(request, 0)


def test_blocks_of_a_request_that_has_ended_come_back_with_its_pull(rig: Rig) -> None:
    request = rig.arrived()
    rig.pulls.waits(request, 0)
    rig.pulls.take_orders()

    assert rig.pulls.note_end(request) == {}
    assert rig.pool.get_num_free_blocks() == 5, "they may be written still"
    is_pulling = [rig.pulls.is_pulling]
    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 4, 0.5))
    is_pulling.append(rig.pulls.is_pulling)

    assert is_pulling == [True, False]
    assert rig.pool.get_num_free_blocks() == 9
    assert rig.is_cached(*request.block_hashes) == [True] * 4


def test_a_pull_of_a_request_that_has_ended_at_once_never_begins(rig: Rig) -> None:
    request = rig.arrived()
    rig.pulls.waits(request, 0)

    rig.pulls.note_end(request)

    assert rig.pulls.take_orders() == ([], [])
    assert not rig.pulls.is_pulling
    assert rig.pool.get_num_free_blocks() == 9


def test_pulls_take_no_more_than_half_of_the_blocks_together(rig: Rig) -> None:
    assert rig.pulls.waits(rig.arrived(), 0)

    assert not rig.pulls.waits(rig.arrived(request_id="other", block_hashes=(b"x", b"y")), 0)
    assert rig.pool.get_num_free_blocks() == 5


def test_what_is_pulled_for_one_request_is_waited_for_by_the_others_and_found_by_all(
    rig: Rig,
) -> None:
    requests = [rig.arrived(request_id=name) for name in ("one", "two", "three")]

    waits = [rig.pulls.waits(request, 0) for request in requests]
    order = rig.ordered()
    again = [rig.pulls.waits(request, 0) for request in requests]
    assert (waits, again, rig.pulls.take_orders()) == ([True] * 3, [True] * 3, ([], []))
    assert rig.pool.get_num_free_blocks() == 5, "there are blocks for one"
    rig.pulls.note_pulled(Pulled(order.request_id, Outcome.PULLED, 4, 0.5))

    assert [rig.pulls.waits(request, 16) for request in requests] == [False] * 3
    assert rig.pulls.take_orders() == ([], [])
    told = [rig.pulls.note_end(request) for request in requests]
    assert told == [{"prefix_tokens": 16, "prefix_seconds": 0.5}, {}, {}]


def test_what_another_request_did_not_need_is_pulled_after_what_it_needed() -> None:
    rig = Rig(FakePool(20))
    other = rig.arrived(block_hashes=(b"0", b"1", b"x"), request_id="other")
    request = rig.arrived()
    rig.pulls.waits(other, 0)
    rig.pulls.take_orders()
    assert rig.pulls.waits(request, 0)
    rig.pulls.note_pulled(Pulled("other", Outcome.PULLED, 3, 0.5))

    assert rig.pulls.waits(request, 8)

    assert rig.ordered().names == (b"2", b"3")


def test_if_nothing_came_for_one_request_the_others_pull_by_themselves_at_once() -> None:
    rig = Rig(FakePool(40))
    first, *others = [rig.arrived(request_id=name) for name in ("one", "two", "three")]
    for request in (first, *others):
        rig.pulls.waits(request, 0)
    rig.pulls.take_orders()
    rig.pulls.note_pulled(Pulled("one", Outcome.ABSENT))

    waits = [rig.pulls.waits(request, 0) for request in (first, *others)]

    assert waits == [False, True, True]
    assert [order.request_id for order in rig.pulls.take_orders()[0]] == ["two", "three"]


@pytest.mark.parametrize(
    ("seconds_per_token", "patience"), [(1e-6, LEAST_SECONDS), (1.0, 16.0), (0.1, 1.6)]
)
def test_another_request_s_pull_is_waited_for_no_longer_than_computing_takes(
    seconds_per_token: float, patience: float
) -> None:
    rig = Rig(FakePool(40))
    rig.pulls.waits(rig.arrived(request_id="other"), 0)
    named = {PARAM: params_of(1000) | {"seconds_per_token": seconds_per_token}}
    request = rig.arrived(kv_transfer_params=named)
    assert rig.pulls.waits(request, 0)
    rig.now += 0.99 * patience
    assert rig.pulls.waits(request, 0)
    rig.now += 0.02 * patience

    assert not rig.pulls.waits(request, 0)
    assert not rig.pulls.waits(request, 0)
    assert [order.request_id for order in rig.pulls.take_orders()[0]] == ["other"]


def test_a_request_that_ends_while_it_waits_for_another_s_pull_is_forgotten(rig: Rig) -> None:
    rig.pulls.waits(rig.arrived(request_id="other"), 0)
    request = rig.arrived()
    rig.pulls.waits(request, 0)

    assert rig.pulls.note_end(request) == {}
    rig.pulls.note_pulled(Pulled("other", Outcome.LATE))

    assert not rig.pulls.waits(request, 0)
    assert [order.request_id for order in rig.pulls.take_orders()[0]] == ["other"]
    assert rig.pool.get_num_free_blocks() == 9


def test_followers_share_a_prompt_s_beginning_and_take_the_rest_for_themselves() -> None:
    rig = Rig(FakePool(40))
    one = rig.arrived(request_id="one", follow=True)
    other = rig.arrived(request_id="other", follow=True, block_hashes=(b"0", b"1", b"x", b"y"))
    plain = rig.arrived(request_id="plain")
    waits = [rig.pulls.waits(request, 0) for request in (one, other, plain)]
    orders = [order.request_id for order in rig.pulls.take_orders()[0]]
    assert (waits, orders) == ([True] * 3, ["one", "plain"])
    rig.pulls.note_pulled(Pulled("one", Outcome.PULLED, 1, 0.1, is_last=False))
    assert rig.pulls.waits(other, 4)
    assert rig.pulls.take_orders() == ([], [])
    rig.pulls.note_pulled(Pulled("one", Outcome.PULLED, 2, 0.1, is_last=False))

    assert rig.pulls.waits(other, 8)

    assert rig.ordered().names == (b"x", b"y")


def test_a_follower_that_waits_for_another_s_pull_waits_no_longer_in_all(rig: Rig) -> None:
    rig.pulls.waits(rig.arrived(request_id="other", follow=True), 0)
    request = rig.arrived(follow=True)
    rig.pulls.waits(request, 0)
    rig.now += 0.5 * FOLLOW_LIMIT_SECONDS
    rig.pulls.note_pulled(Pulled("other", Outcome.FAILED))
    assert rig.pulls.waits(request, 0)
    rig.pulls.note_pulled(Pulled("r", Outcome.FAILED))
    rig.now += 0.5 * FOLLOW_LIMIT_SECONDS

    assert not rig.pulls.waits(request, 0)


def test_who_may_not_pull_computes_but_who_follows_waits(rig: Rig) -> None:
    rig.pulls = PrefixPulls(rig.pool, may_pull=False, clock=lambda: rig.now)
    plain, following = rig.arrived(), rig.arrived(request_id="other", follow=True)

    assert [rig.pulls.waits(each, 0) for each in (plain, following)] == [False, True]
    assert rig.pulls.take_orders() == ([], [])


def test_nothing_is_remembered_of_a_request_that_has_ended(rig: Rig) -> None:
    request = rig.arrived()
    rig.pulls.waits(request, 0)
    rig.pulls.take_orders()
    rig.pulls.note_end(request)
    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 4, 0.5))

    assert rig.pulls.note_end(FakeRequest("r")) == {}


def test_the_pull_of_a_request_that_has_ended_is_dropped(rig: Rig) -> None:
    request = rig.arrived()
    rig.pulls.waits(request, 0)
    rig.pulls.take_orders()
    other = rig.arrived(request_id="other")

    rig.pulls.note_end(request)
    rig.pulls.note_end(other)

    assert rig.pulls.take_orders() == ([], ["r"])
    assert rig.pulls.take_orders() == ([], [])


def test_a_pull_that_has_ended_is_not_dropped(rig: Rig) -> None:
    request = rig.arrived()
    rig.pulls.waits(request, 0)
    rig.pulls.take_orders()
    rig.pulls.note_pulled(Pulled("r", Outcome.LATE))

    rig.pulls.note_end(request)

    assert rig.pulls.take_orders() == ([], [])


def test_what_was_pulled_so_far_is_found_while_the_rest_is_pulled(rig: Rig) -> None:
    request = rig.arrived(follow=True)
    rig.pool.hold(request.block_hashes[:1])
    rig.pulls.waits(request, 4)

    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 1, 0.1, is_last=False))
    assert rig.is_cached(*request.block_hashes) == [True, True, False, False]
    assert rig.pool.get_num_free_blocks() == 5, "nobody else gets them before all have come"
    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 3, 0.2, is_last=False))
    assert rig.is_cached(*request.block_hashes) == [True] * 4
    rig.pulls.note_pulled(Pulled("r", Outcome.PULLED, 3, 0.3))

    assert rig.pool.get_num_free_blocks() == 9
    assert rig.pulls.note_end(request) == {"prefix_tokens": 12, "prefix_seconds": 0.3}


@pytest.mark.parametrize("outcome", [Outcome.PULLED, Outcome.FAILED])
def test_a_request_that_follows_waits_also_after_its_pull(rig: Rig, outcome: Outcome) -> None:
    request = rig.arrived(follow=True)
    assert rig.pulls.waits(request, 0)

    rig.pulls.note_pulled(Pulled("r", outcome))
    rig.now += 0.999 * FOLLOW_LIMIT_SECONDS
    assert rig.pulls.waits(request, 0)
    rig.now += 0.001 * FOLLOW_LIMIT_SECONDS

    assert not rig.pulls.waits(request, 0)


def test_a_request_that_follows_waits_also_if_it_can_pull_nothing(rig: Rig) -> None:
    request = rig.arrived(follow=True, block_hashes=())

    assert rig.pulls.waits(request, 0)
    assert not rig.pulls.is_pulling
    assert rig.pulls.note_end(request) == {}
    assert not rig.pulls.waits(request, 0)


PATIENCE_SECONDS = LEAST_SECONDS
"""The machine's prompts are short: computing them takes less."""


def follows(request: FakeRequest) -> bool:
    assert request.kv_transfer_params is not None
    return bool(request.kv_transfer_params[PARAM]["follow"])


class PullsMachine(RuleBasedStateMachine):
    """Prompts share beginnings: that of name ``n`` has the first blocks of all prompts."""

    @initialize(count=st.integers(2, 24) | st.just(40))
    def begin(self, count: int) -> None:
        self.count = count
        self.pool = self.make_pool(count)
        self.now = 0.0
        self.pulls = PrefixPulls(self.pool, clock=lambda: self.now)
        self.waiting: dict[str, FakeRequest] = {}
        self.moving: dict[str, Pull] = {}
        self.owners: dict[str, FakeRequest] = {}
        self.others: list[list[Any]] = []
        self.told: dict[str, int] = {}
        """How many blocks of each pull are said to be here."""
        self.dropped: list[str] = []
        self.behind: dict[str, float] = {}
        """Since when each request has waited, or did, for what is pulled for another one."""
        self.number = 0

    @rule(length=st.integers(1, 8), tokens=st.integers(1, 40) | st.just(40), follow=st.booleans())
    def arrive(self, length: int, tokens: int, follow: bool) -> None:
        self.number += 1
        name = f"r{self.number}"
        hashes = tuple(bytes([number]) * 32 for number in range(length))
        request = FakeRequest(name, hashes, {PARAM: params_of(tokens) | {"follow": follow}})
        self.pulls.note_arrival(request)
        self.waiting[name] = self.owners[name] = request

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        request = self.waiting[name]
        cached = self._count_cached(request)
        elsewhere = {
            each
            for other, order in self.moving.items()
            if other != name and (follows(request) or not order.source.follow)
            for each in order.names
        }
        waits = self.pulls.waits(request, cached * BLOCK_TOKENS)
        orders, dropped = self.pulls.take_orders()
        self.dropped += dropped
        for order in orders:
            assert order.request_id == name
            assert order.request_id not in self.moving
            assert len(order.local) == len(order.names)
            wanted = request.block_hashes[cached:]
            assert order.names == wanted[: len(order.names)]
            assert order.names[0] not in elsewhere or name in self.behind
            assert not self.told.get(name)
            self.moving[name] = order
        assert waits or name not in self.moving
        if not waits or name in self.moving:
            return
        is_behind = not elsewhere.isdisjoint(request.block_hashes[cached : cached + 1])
        assert is_behind or follows(request)
        if is_behind:
            waited = self.now - self.behind.setdefault(name, self.now)
            assert waited < PATIENCE_SECONDS or follows(request)

    @rule(seconds=st.sampled_from([0.4 * PATIENCE_SECONDS, PATIENCE_SECONDS]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.moving)
    @rule(data=st.data())
    def end_pull(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.moving)))
        self._tell(name, data, is_last=True)
        del self.moving[name]
        waits_on = follows(self.owners[name]) and name in self.waiting
        assert waits_on or not self.pulls.waits(self.owners[name], 0)

    @precondition(lambda self: self.moving)
    @rule(data=st.data())
    def get_on_with_pull(self, data: st.DataObject) -> None:
        self._tell(data.draw(st.sampled_from(sorted(self.moving))), data, is_last=False)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def end_request(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        told = self.pulls.note_end(self.waiting.pop(name))
        is_done = name in self.told and name not in self.moving
        tokens = BLOCK_TOKENS * self.told[name] if is_done else 0
        assert told.get("prefix_tokens", 0) == tokens
        assert self.pulls.note_end(self.owners[name]) == {}

    @rule(count=st.integers(1, 10))
    def others_take(self, count: int) -> None:
        if count <= self.pool.get_num_free_blocks():
            self.others.append(self.pool.get_new_blocks(count))

    @precondition(lambda self: self.others)
    @rule()
    def others_leave(self) -> None:
        self.pool.free_blocks(self.others.pop())

    @invariant()
    def every_block_is_free_or_with_one_owner(self) -> None:
        if not hasattr(self, "pool"):
            return
        lent = [block for order in self.moving.values() for block in order.local]
        taken = [block.block_id for blocks in self.others for block in blocks]
        assert len({*lent, *taken}) == len(lent) + len(taken)
        kept = [block.block_id for moving in self.pulls._moving.values() for block in moving.before]
        free = self.pool.get_num_free_blocks()
        assert free + len({*lent, *taken, *kept}) == self.count - 1
        assert self.pulls.is_pulling == bool(self.moving)

    def make_pool(self, count: int) -> Any:
        return FakePool(count)

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        for request in self.waiting.values():
            self.pulls.note_end(request)
        for name in list(self.moving):
            self.pulls.note_pulled(Pulled(name, Outcome.FAILED, self.told.get(name, 0)))
            assert self.pulls.note_end(self.owners[name]) == {}
        for blocks in self.others:
            self.pool.free_blocks(blocks)
        assert self.pool.get_num_free_blocks() == self.count - 1

    def _tell(self, name: str, data: st.DataObject, *, is_last: bool) -> None:
        order = self.moving[name]
        least = self.told.get(name, 0)
        count = data.draw(st.integers(least, len(order.names)))
        outcome = Outcome.PULLED if count > least else Outcome.CHANGED
        self.pulls.note_pulled(Pulled(name, outcome, count, 0.1, is_last))
        self.told[name] = count
        names = [self._name_of(block) for block in order.local]
        assert names == [*order.names[:count], *[None] * (len(order.names) - count)]

    def _count_cached(self, request: FakeRequest) -> int:
        """Count as vLLM does before it asks: never all of a prompt."""
        cached = (bool(self.pool.get_cached_block(name, [0])) for name in request.block_hashes)
        return sum(1 for _ in itertools.takewhile(bool, cached))

    def _name_of(self, block_id: int) -> bytes | None:
        name: bytes | None = self.pool.blocks[block_id].name
        return name


def test_whatever_happens_blocks_come_back_and_have_the_right_names() -> None:
    run_state_machine_as_test(PullsMachine, settings=settings(max_examples=100, deadline=None))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # vLLM imports such parts of torch
def test_vllm_s_own_pool_is_used_as_it_must_be() -> None:
    pools = pytest.importorskip("vllm.v1.core.block_pool")
    utils = pytest.importorskip("vllm.v1.core.kv_cache_utils")

    class VllmMachine(PullsMachine):
        def make_pool(self, count: int) -> Any:
            return pools.BlockPool(count, enable_caching=True, hash_block_size=BLOCK_TOKENS)

        def _name_of(self, block_id: int) -> bytes | None:
            name = self.pool.blocks[block_id].block_hash
            return None if name is None else utils.get_block_hash(name)

    run_state_machine_as_test(VllmMachine, settings=settings(max_examples=20, deadline=None))
