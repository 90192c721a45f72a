"""A stream of frames: cut anywhere, in few writes, and given up when something is wrong."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from twofold_router.http.testing import MemoryTransport
from twofold_router.processes import link as module
from twofold_router.processes.link import Link
from twofold_router.processes.messages import AskMetrics, Cancel, Message, MetricsText

MESSAGES = [Cancel("one"), AskMetrics(2), Cancel("é" * 100), AskMetrics(4)]


class Received(list[object]):
    """A link's other side, as what it got."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_count = 0

    def note_loss(self) -> None:
        self.lost_count += 1


def connected(received: Received | None = None) -> tuple[Link, MemoryTransport]:
    received = Received() if received is None else received
    made = Link()
    made.receive({Cancel: received.append, AskMetrics: received.append}, received.note_loss)
    return made, MemoryTransport(made)


async def turn() -> None:
    """Let the event loop turn once."""
    await asyncio.sleep(0)


async def stream_of(*messages: Message) -> bytes:
    link, transport = connected()
    for message in messages:
        link.send(message)
    await turn()
    return transport.take()


async def test_messages_arrive_in_order_wherever_the_stream_is_cut() -> None:
    stream = await stream_of(*MESSAGES)

    for size in range(1, len(stream) + 1):
        received = Received()
        link, _ = connected(received)
        for start in range(0, len(stream), size):
            link.data_received(stream[start : start + size])
        assert received == MESSAGES


async def test_what_is_sent_in_one_turn_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    link, transport = connected()
    writes: list[int] = []
    monkeypatch.setattr(transport, "write", lambda data: writes.append(len(data)))

    link.send(MESSAGES[0])
    link.send(MESSAGES[1])
    assert not writes
    await turn()
    await turn()
    link.send(MESSAGES[2])
    await turn()

    assert len(writes) == 2


async def test_closing_sends_what_is_left() -> None:
    link, transport = connected()
    link.send(MESSAGES[0])

    await link.close()

    assert transport.take() == await stream_of(MESSAGES[0])
    link.send(MESSAGES[1])
    await turn()
    assert transport.take() == b""


async def test_a_loss_is_told_once() -> None:
    received = Received()
    link, transport = connected(received)

    transport.lose(ConnectionResetError())
    await turn()
    await link.close()

    assert received.lost_count == 1
    assert link.lost.is_set()


@pytest.mark.parametrize("messages", [(), (MetricsText(1, b"x"),)], ids=["too long", "unknown"])
async def test_what_cannot_be_read_ends_the_link(
    messages: tuple[Message, ...], caplog: pytest.LogCaptureFixture
) -> None:
    received = Received()
    link, transport = connected(received)
    stream = await stream_of(*messages) or b"\xff\xff\xff\xff"

    with caplog.at_level(logging.CRITICAL):
        error = attempt(lambda: link.data_received(stream))

    assert transport.is_aborted or error is not None
    assert not received


def attempt(act: Callable[[], None]) -> Exception | None:
    """An event loop ends the transport of a protocol that raises."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - as the event loop does
        return error
    return None


async def test_who_does_not_read_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD_BYTES", 1000)
    link, transport = connected()
    transport.stalled = True

    link.send(MetricsText(1, bytes(900)))
    await turn()
    early = transport.is_aborted
    link.send(MetricsText(2, bytes(900)))
    await turn()

    assert (early, transport.is_aborted) == (False, True)
    assert "given up" in caplog.text


async def test_a_message_that_cannot_be_encoded_leaves_nothing_in_the_stream() -> None:
    received = Received()
    link, transport = connected(received)
    link.send(MESSAGES[0])
    with pytest.raises(OverflowError):
        link.send(AskMetrics(2**64))
    link.send(MESSAGES[1])
    await turn()

    link.data_received(transport.take())
    assert received == MESSAGES[:2]
