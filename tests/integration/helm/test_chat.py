"""What ``helm test`` starts as its pod, as a process: before the router of the chart's service."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from twofold_operator.planning.testing import World

from .charts import needs_helm, shown

pytestmark = needs_helm

WAIT_SECONDS = 60.0


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_it_waits_for_an_answer_of_two_workers_and_says_it(valkey: Any, port: int) -> None:
    with chatting(port, WAIT_SECONDS) as chat:
        assert chat.stdout is not None
        # Nobody listens yet.
        first = chat.stdout.readline()
        with router(valkey.url, port), engine(valkey.url, "prefill"), engine(valkey.url, "decode"):
            rest, _ = chat.communicate(timeout=WAIT_SECONDS)

    assert first.startswith("not yet: <urlopen error ")
    assert rest.splitlines()[-1].startswith("answered: ")
    assert chat.returncode == 0


def test_it_fails_without_a_worker(valkey: Any, port: int) -> None:
    with router(valkey.url, port):
        told, code = last_said(port, "503")

    assert told.startswith('no answer: 503 {"error":')
    assert code == 1


def test_it_fails_when_one_worker_answers_alone(valkey: Any, port: int) -> None:
    with router(valkey.url, port), engine(valkey.url, "decode"):
        told, code = last_said(port, "mode")

    assert told == "no answer: answered in mode fallback"
    assert code == 1


def last_said(port: int, awaited: str) -> tuple[str, int]:
    """Chat without patience, until the reason is the one *awaited*: the router hears of workers a
    moment after they listen."""
    for _ in range(100):
        with chatting(port, 0) as chat:
            said, _ = chat.communicate(timeout=WAIT_SECONDS)
        if awaited in said:
            break
    (line,) = said.splitlines()
    return line, chat.returncode


@contextlib.contextmanager
def chatting(port: int, patience_seconds: float) -> "Iterator[subprocess.Popen[str]]":
    """Run the container of the test's pod, which asks a router of this machine."""
    (container,) = shown("tests/chat.yaml")["spec"]["containers"]
    told = {each["name"]: each["value"] for each in container["env"]}
    told["CHAT_URL"] = told["CHAT_URL"].replace("t-twofold-test.demo.svc", f"127.0.0.1:{port}")
    told["CHAT_TIMEOUT_SECONDS"] = str(patience_seconds)
    with running([*container["command"], *container["args"]], told) as process:
        yield process


@contextlib.contextmanager
def router(redis: str, port: int) -> Iterator[None]:
    """Run what the operator makes of the test's service, on an address of this machine."""
    world = World(shown("tests/service.yaml")["spec"])
    world.settle()
    (pod,) = (
        each["spec"]["template"]["spec"]
        for (kind, _), each in world.objects.items()
        if kind == "Deployment"
    )
    (container,) = pod["containers"]
    flags = [*container["args"], "--service=chat", "--host=127.0.0.1", f"--port={port}"]
    with running([*container["command"], *flags], {"TWOFOLD_REDIS_URL": redis}):
        yield


@contextlib.contextmanager
def engine(redis: str, role: str) -> Iterator[None]:
    spec = shown("tests/service.yaml")["spec"]
    flags = {
        "--profile": spec["sim"]["profile"],
        "--model": spec["model"]["servedName"],
        "--port": "0",
        "--role": role,
        "--service": "chat",
        "--worker-id": role,
        "--redis": redis,
    }
    words = (word for flag in flags.items() for word in flag)
    with running(["python", "-m", "twofold_sim", "engine", *words], {}):
        yield


@contextlib.contextmanager
def running(command: list[str], told: dict[str, str]) -> "Iterator[subprocess.Popen[str]]":
    python, *arguments = command
    assert python == "python"
    with subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
