from collections.abc import MutableMapping
from typing import Any

import msgspec
import pytest

from twofold_cluster.errors import Fault
from twofold_cluster.legs import FOLLOWS_HEADER
from twofold_engine.gate import AsgiApp, Gate, Receive, Send
from twofold_engine.roles import InFlight

GENERATE = {"type": "http", "path": "/v1/completions", "headers": [(b"host", b"d")]}
FOLLOW = GENERATE | {"headers": [(b"host", b"d"), (FOLLOWS_HEADER, b"1")]}


class StreamingEngine:
    """Answers in pieces; ``seen`` is what was in flight at each of them."""

    def __init__(self) -> None:
        self.gate: Gate | None = None
        self.seen: list[InFlight] = []
        self.fails = False
        self.instead: AsgiApp | None = None
        """What the next request is passed to, if not to this."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        instead, self.instead = self.instead, None
        if instead is not None:
            await instead(scope, receive, send)
            return
        self._look()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self._look()
        if self.fails:
            raise ConnectionResetError
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        self._look()
        await send({"type": "http.response.body", "body": b"two"})

    def _look(self) -> None:
        assert self.gate is not None
        self.seen.append(self.gate.in_flight)


def a_gate(bound: int = 1) -> tuple[Gate, StreamingEngine]:
    engine = StreamingEngine()
    engine.gate = Gate(
        engine,
        lambda in_flight: Fault.PREFILL_BUSY if in_flight.unprefilled_count >= bound else None,
        on_change=lambda: None,
    )
    return engine.gate, engine


async def answer(gate: Gate, scope: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("the gate reads nothing itself")

    await gate(scope, receive, send)
    return sent


async def test_a_request_is_unprefilled_until_the_first_byte_and_in_flight_until_the_last() -> None:
    gate, engine = a_gate()

    await answer(gate, GENERATE)

    assert engine.seen == [InFlight(1, 1), InFlight(1, 1), InFlight(1, 0)]
    assert gate.in_flight == InFlight(0, 0)


async def test_counts_are_given_back_when_the_engine_fails() -> None:
    gate, engine = a_gate()
    engine.fails = True

    with pytest.raises(ConnectionResetError):
        await answer(gate, GENERATE)

    assert gate.in_flight == InFlight(0, 0)


async def test_a_refusal_is_an_openai_error_that_names_its_own_reason() -> None:
    gate, engine = a_gate(bound=0)

    start, body = await answer(gate, GENERATE)

    assert start["status"] == 429
    assert (b"x-llm-d-request-dropped-reason", b"prefill-busy") in start["headers"]
    assert msgspec.json.decode(body["body"])["error"]["code"] == "prefill_busy"
    assert engine.seen == []


async def test_a_closed_gate_refuses_work_but_lets_health_checks_through() -> None:
    gate, engine = a_gate()
    gate.close()

    refused = await answer(gate, GENERATE)
    healthy = await answer(gate, {"type": "http", "path": "/health"})

    assert refused[0]["status"] == 503
    assert healthy[0]["status"] == 200
    assert engine.seen[0] == InFlight(0, 0)


async def test_a_request_that_only_follows_takes_no_place_of_another() -> None:
    gate, engine = a_gate(bound=1)

    async def follow_and_be_answered_beside(
        scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        beside.append(await answer(gate, GENERATE))
        beside.append(await answer(gate, FOLLOW))

    beside: list[list[MutableMapping[str, Any]]] = []
    engine.instead = follow_and_be_answered_beside
    await answer(gate, FOLLOW)

    assert [sent[0]["status"] for sent in beside] == [200, 429], "followers have a bound too"
    assert engine.seen == [InFlight(1, 1), InFlight(1, 1), InFlight(1, 0)]


async def test_other_requests_take_no_place_of_those_that_follow() -> None:
    gate, engine = a_gate(bound=1)

    async def be_followed_beside(
        scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        beside.append(await answer(gate, FOLLOW))
        beside.append(await answer(gate, GENERATE))

    beside: list[list[MutableMapping[str, Any]]] = []
    engine.instead = be_followed_beside
    await answer(gate, GENERATE)

    assert [sent[0]["status"] for sent in beside] == [200, 429]


async def test_the_place_of_one_that_follows_is_given_back_when_the_engine_fails() -> None:
    gate, engine = a_gate(bound=1)
    engine.fails = True
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await answer(gate, FOLLOW)

    assert gate.in_flight == InFlight(0, 0)


async def test_a_closed_gate_refuses_those_that_follow() -> None:
    gate, _ = a_gate()
    gate.close()

    refused = await answer(gate, FOLLOW)

    assert refused[0]["status"] == 503
