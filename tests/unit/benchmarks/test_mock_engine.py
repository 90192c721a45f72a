import asyncio
from collections.abc import Iterable

import pytest
from benchmarks.mock_answers import EVENT_BYTES
from benchmarks.mock_engine import Behaviour, EngineProtocol, MockEngine

BODY = b'{"model":"m","stream":true,"max_tokens":3,"messages":[]}'


class FakeTransport(asyncio.Transport):
    """Keeps what is written; has room until told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def writelines(self, list_of_data: Iterable[object]) -> None:
        for data in list_of_data:
            self.write(data)

    @property
    def event_count(self) -> int:
        return self.written.count(b"%x\r\ndata: {" % EVENT_BYTES)


def connect(engine: MockEngine) -> tuple[EngineProtocol, FakeTransport]:
    protocol = EngineProtocol(engine, asyncio.get_running_loop())
    transport = FakeTransport()
    protocol.connection_made(transport)
    return protocol, transport


def request(body: bytes) -> bytes:
    return b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def turn(times: int = 10) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def test_prefills_stand_in_one_line() -> None:
    engine = MockEngine(Behaviour(seconds_per_prompt_token=0.01))

    ends = [engine.prefill_end(100, now=now) for now in (0.0, 0.5, 5.0)]

    assert ends == pytest.approx([1.0, 2.0, 6.0])


def test_a_long_line_refuses_and_does_not_grow() -> None:
    engine = MockEngine(Behaviour(seconds_per_prompt_token=0.01, refuse_after_seconds=1.5))
    engine.prefill_end(200, now=0.0)

    assert engine.prefill_end(100, now=0.0) is None
    assert engine.prefill_end(100, now=0.6) == pytest.approx(3.0)


async def test_a_stream_has_as_many_events_as_it_may_have_tokens() -> None:
    engine = MockEngine(Behaviour())
    protocol, transport = connect(engine)

    protocol.data_received(request(BODY))
    assert (transport.event_count, engine.running) == (1, 1)
    await turn()

    assert (transport.event_count, engine.running) == (3, 0)
    assert transport.written.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_full_pipe_holds_the_stream_and_doubles_nothing() -> None:
    protocol, transport = connect(MockEngine(Behaviour()))
    protocol.data_received(request(BODY))
    protocol.pause_writing()
    protocol.resume_writing()
    assert transport.event_count == 1
    protocol.pause_writing()
    await turn()
    assert transport.event_count == 1

    protocol.resume_writing()
    await turn()

    assert transport.event_count == 3


async def test_a_client_that_goes_away_is_not_counted_any_more() -> None:
    engine = MockEngine(Behaviour())
    protocol, transport = connect(engine)
    protocol.data_received(request(BODY))

    protocol.connection_lost(None)
    await turn()

    assert (transport.event_count, engine.running) == (1, 0)


@pytest.mark.parametrize(
    ("params", "gives_blocks"),
    [(b'{"do_remote_decode": true}', True), (b'{"do_remote_decode":false}', False)],
)
async def test_leg_1_is_found_behind_a_long_prompt(params: bytes, gives_blocks: bool) -> None:
    protocol, transport = connect(MockEngine(Behaviour()))
    body = b'{"prompt":"%s","kv_transfer_params":%s}' % (b"a " * 20_000, params)

    whole = request(body)
    for start in range(0, len(whole), 999):
        protocol.data_received(whole[start : start + 999])

    assert (b"remote_request_id" in transport.written) is gives_blocks


@pytest.mark.parametrize(
    ("params", "waits"), [(b"{}", True), (b'{"do_remote_prefill":true}', False)]
)
async def test_leg_2_has_its_prefill_behind_it(params: bytes, waits: bool) -> None:
    engine = MockEngine(Behaviour(seconds_per_prompt_token=1000.0))
    protocol, _ = connect(engine)

    protocol.data_received(request(b'{"kv_transfer_params":%s}' % params))

    assert (engine.running == 1) is waits
    protocol.connection_lost(None)
