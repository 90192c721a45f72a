import asyncio
import json

import pytest
from tests.unit.engine.prefixes.ranks import FakeRanks
from tests.unit.engine.prefixes.workers import P0, a_worker

from twofold_engine.prefixes.engine import Computed
from twofold_engine.prefixes.errors import (
    NoRoomError,
    NotAnsweredError,
    PrefixError,
    UnknownPinError,
)
from twofold_engine.prefixes.pinning import Pins
from twofold_engine.prefixes.prompts import Prompt, read_prompt

OWN = a_worker(P0, kv_capacity_tokens=640, kv_block_tokens=16)
"""Its pins may keep 320 tokens."""


class Engine:
    """Answers legs 1 of prompts whose text is how many tokens they have; ``may_answer`` holds the
    answers back."""

    def __init__(self) -> None:
        self.legs: list[dict[str, object]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.offers = True

    async def compute(self, prompt: Prompt, leg: bytes) -> Computed:
        fields = json.loads(leg)
        self.legs.append(fields)
        await self.may_answer.wait()
        params = {
            "do_remote_prefill": True,
            "remote_engine_id": "p-0:1",
            "remote_request_id": f"r{len(self.legs)}",
            "remote_host": "127.0.0.1",
            "remote_port": 1,
        }
        answer = json.dumps({"kv_transfer_params": params if self.offers else None}).encode()
        return Computed(int(fields["prompt"]), 16, answer)


class Worker:
    """A worker that pins, an engine and a clock that a test moves on."""

    def __init__(self) -> None:
        self.engine, self.ranks, self.now = Engine(), FakeRanks(), 0.0
        self.pins = Pins(lambda: OWN, self.engine.compute, self.ranks, lambda: self.now)

    async def pin(self, tokens: int, seconds: float = 60.0) -> str:
        prompt = read_prompt(json.dumps({"prompt": str(tokens)}), model="m")
        return (await self.pins.pin(prompt, seconds)).request_id


async def test_a_pin_is_leg_1_whose_lease_is_kept() -> None:
    worker = Worker()

    pin = await worker.pins.pin(read_prompt('{"prompt": "70", "stream": true}', model="m"), 60.0)

    (leg,) = worker.engine.legs
    assert (leg["max_tokens"], leg["stream"], leg["model"]) == (1, False, "m")
    assert leg["kv_transfer_params"]["do_remote_decode"] is True  # type: ignore[index]
    assert worker.ranks.pinned == {"r1": 60.0}
    assert (pin.request_id, pin.token_count, pin.cached_token_count) == ("r1", 70, 16)
    assert pin.kept_token_count == 80


async def test_pins_together_keep_at_most_half_of_the_cache() -> None:
    worker = Worker()
    await worker.pin(150)

    with pytest.raises(NoRoomError, match="320 tokens of this worker's cache, and keep 160"):
        await worker.pin(161)

    assert worker.ranks.released == ["r2"]
    await worker.pin(160)


async def test_where_all_is_taken_nothing_is_computed() -> None:
    worker = Worker()
    await worker.pin(320)

    with pytest.raises(NoRoomError):
        await worker.pin(1)

    assert len(worker.engine.legs) == 1


async def test_a_pin_that_has_ended_by_its_time_leaves_its_room() -> None:
    worker = Worker()
    first = await worker.pin(320, seconds=60.0)
    worker.now = 60.0

    await worker.pin(320)

    with pytest.raises(UnknownPinError):
        await worker.pins.unpin(first)


async def test_a_pin_that_was_ended_leaves_its_room_and_is_unknown() -> None:
    worker = Worker()
    first = await worker.pin(320)
    await worker.pins.unpin(first)

    assert worker.ranks.released == [first]
    await worker.pin(320)
    with pytest.raises(UnknownPinError, match=first):
        await worker.pins.unpin(first)


async def test_a_pin_that_could_not_be_ended_is_still_one() -> None:
    worker = Worker()
    pin = await worker.pin(16)
    worker.ranks.silent = True
    with pytest.raises(NotAnsweredError):
        await worker.pins.unpin(pin)
    worker.ranks.silent = False

    await worker.pins.unpin(pin)

    assert worker.ranks.pinned == {}


async def test_an_engine_that_keeps_nothing_pins_nothing() -> None:
    worker = Worker()
    worker.engine.offers = False

    with pytest.raises(NotAnsweredError, match="has kept no blocks"):
        await worker.pin(16)

    assert worker.ranks.pinned == {}


async def test_a_worker_that_drains_ends_its_pins_and_takes_none() -> None:
    worker = Worker()
    await worker.pin(16)
    await worker.pin(16)

    await worker.pins.close()

    assert sorted(worker.ranks.released) == ["r1", "r2"]
    with pytest.raises(PrefixError, match="the worker drains"):
        await worker.pin(16)


@pytest.mark.parametrize("waits_for", ["engine", "ranks"])
async def test_a_prompt_that_is_pinned_as_the_worker_drains_is_let_go(waits_for: str) -> None:
    worker = Worker()
    may_answer = getattr(worker, waits_for).may_answer
    may_answer.clear()
    async with asyncio.TaskGroup() as tasks:
        pinning = tasks.create_task(_refused(worker))
        await asyncio.sleep(0)
        await worker.pins.close()
        may_answer.set()

    assert "drains" in pinning.result()
    assert worker.ranks.pinned == {}
    assert worker.ranks.released == ["r1"]


async def _refused(worker: Worker) -> str:
    with pytest.raises(PrefixError) as refused:
        await worker.pin(16)
    return str(refused.value)


async def test_closing_goes_on_where_a_rank_is_silent() -> None:
    worker = Worker()
    await worker.pin(16)
    worker.ranks.silent = True

    await worker.pins.close()

    assert worker.ranks.pinned == {"r1": 60.0}
