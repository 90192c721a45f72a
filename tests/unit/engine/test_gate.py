from collections.abc import MutableMapping
from typing import Any

import msgspec
import pytest

from twofold_cluster.errors import Fault
from twofold_engine.gate import Gate, Receive, Send
from twofold_engine.roles import InFlight

GENERATE = {"type": "http", "path": "/v1/completions"}


class StreamingEngine:
    """Answers in pieces; ``seen`` is what was in flight at each of them."""

    def __init__(self) -> None:
        self.gate: Gate | None = None
        self.seen: list[InFlight] = []
        self.fails = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
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
