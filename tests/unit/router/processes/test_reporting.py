"""What a process tells of its counts."""

import asyncio

import pytest

from twofold_cluster.errors import RequestError
from twofold_router.processes.messages import (
    AskMetrics,
    AskReport,
    Message,
    MetricsText,
    Report,
)
from twofold_router.processes.reporting import Reporting
from twofold_router.tallies import Tallies


def make() -> tuple[Reporting, list[Message]]:
    sent: list[Message] = []
    return Reporting(sent.append, Tallies()), sent


async def test_a_report_is_made_at_the_beginning_when_asked_and_at_the_end() -> None:
    reporting, sent = make()
    running = asyncio.create_task(reporting.run())
    await asyncio.sleep(0)
    begun = len(sent)

    reporting.count_connections = lambda: 3
    reporting.handlers()[AskReport](AskReport())
    asked = len(sent)
    running.cancel()
    await asyncio.wait([running])

    assert (begun, asked, len(sent)) == (1, 2, 3)
    assert sent[1] == Report(Tallies(), 3)


async def test_metrics_are_asked_for_and_come() -> None:
    reporting, sent = make()
    task = asyncio.create_task(reporting.read_metrics())
    await asyncio.sleep(0)
    (question,) = sent
    assert isinstance(question, AskMetrics)

    reporting.handlers()[MetricsText](MetricsText(question.question, b"text"))

    assert await task == b"text"


async def test_without_a_placement_process_there_are_no_metrics() -> None:
    reporting, _ = make()
    reporting.lose()

    with pytest.raises(RequestError):
        await reporting.read_metrics()
