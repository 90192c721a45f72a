import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.legs import FOLLOWS_HEADER
from twofold_engine.gate import Gate, Receive, Send
from twofold_engine.roles import InFlight, load_policy
from twofold_engine.settings import WorkerSettings

SETTINGS = WorkerSettings(
    service="s",
    worker_id=WorkerId("d"),
    role=Role.DECODE,
    model="m",
    served_name="m",
    max_unprefilled=1,
    max_in_flight=2,
)


@pytest.mark.parametrize("role", [Role.DECODE, Role.BOTH])
def test_a_worker_that_decodes_refuses_when_its_batch_is_full(role: Role) -> None:
    admit = load_policy(role).admit

    assert admit(InFlight(1, 1), SETTINGS) is None
    assert admit(InFlight(2, 0), SETTINGS) is Fault.DECODE_BUSY


async def test_those_that_only_follow_are_as_many_as_others_at_most_and_counted_apart() -> None:
    policy = load_policy(Role.DECODE)
    may_end = asyncio.Event()
    statuses: list[int] = []
    refused: list[int] = []

    async def engine(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await may_end.wait()

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("the gate reads nothing itself")

    gate = Gate(engine, lambda in_flight: policy.admit(in_flight, SETTINGS), lambda: None)
    follow = {"type": "http", "path": "/v1/completions", "headers": [(FOLLOWS_HEADER, b"1")]}
    async with asyncio.TaskGroup() as tasks:
        for scope in [follow] * 3 + [follow | {"headers": []}] * 3:
            tasks.create_task(gate(scope, receive, send))
            await asyncio.sleep(0)
            refused.append(len(statuses))
        may_end.set()

    assert refused == [0, 0, 1, 1, 1, 2]
    assert statuses == [429, 429]
