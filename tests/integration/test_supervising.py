"""A worker's process, played by small programs that end in every way."""

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.events import Step
from twofold_engine.settings import WorkerSettings
from twofold_engine.supervising import WorkerProcess

SETTINGS = WorkerSettings(
    service="s", worker_id=WorkerId("w"), role=Role.PREFILL, model="m", served_name="m"
)

PRELUDE = """
import os, signal, subprocess, sys, time
from twofold_cluster.identity import Role
from twofold_engine.events import Event, Reporter, Step
from twofold_engine.settings import from_argv
settings = from_argv(sys.argv[1:], module="m", role=Role.PREFILL)
reporter = Reporter(settings.events_fd)
"""


def a_process(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    companion: "Companion | None" = None,
    echo: io.BytesIO | None = None,
) -> WorkerProcess:
    (tmp_path / "played_worker.py").write_text(PRELUDE + program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    beside = None if companion is None else companion.run
    return WorkerProcess(SETTINGS, "played_worker", tmp_path, beside=beside, echo=echo)


async def until_step(process: WorkerProcess, step: Step) -> None:
    async with asyncio.timeout(20):
        while process.state.step is not step:
            await asyncio.sleep(0.01)


async def until_ended(process: WorkerProcess) -> None:
    async with asyncio.timeout(20):
        while not process.state.ended:
            await asyncio.sleep(0.01)


async def test_the_way_to_readiness_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = a_process(
        tmp_path,
        monkeypatch,
        """
reporter.report(Event(Step.STARTING, warning="no RDMA"))
time.sleep(0.2)
print("Starting to load model x", flush=True)
sys.stdin.read()
time.sleep(0.5)
reporter.report(Event(Step.READY, address="http://127.0.0.1:1", role=Role.PREFILL))
time.sleep(60)
""",
    )
    await process.start()
    async with asyncio.timeout(20):
        while process.state.message != "loading weights":
            await asyncio.sleep(0.01)

    await until_step(process, Step.READY)

    assert process.state.address == "http://127.0.0.1:1"
    assert process.state.warning == "no RDMA"
    assert "Starting to load model x" in (tmp_path / "w.log").read_text()
    await process.stop(limit_seconds=5)
    assert process.state.ended


async def test_what_a_process_says_can_be_read_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = io.BytesIO()
    process = a_process(tmp_path, monkeypatch, "print('one', flush=True); print('two')", echo=echo)
    await process.start()

    await until_ended(process)

    assert echo.getvalue() == b"one\ntwo\n"
    assert (tmp_path / "w.log").read_bytes() == b"one\ntwo\n"


async def test_a_process_whose_log_cannot_be_written_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.log").mkdir()
    more_than_a_pipe_holds = "for _ in range(1000): print('x' * 1000)\nraise ValueError('bad')"
    process = a_process(tmp_path, monkeypatch, more_than_a_pipe_holds)

    await process.start()
    await until_ended(process)

    assert process.state.message == "ended with status 1: ValueError: bad"


async def test_the_first_error_in_the_log_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = a_process(
        tmp_path,
        monkeypatch,
        """
print("core ERROR ValueError: too little memory")
sys.exit("RuntimeError: engine core failed")
""",
    )
    await process.start()

    await until_ended(process)

    assert process.state.message == "ended with status 1: ValueError: too little memory"


async def test_what_a_killed_process_leaves_behind_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = a_process(
        tmp_path,
        monkeypatch,
        """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
reporter.report(Event(Step.READY, address=f"{child.pid}"))
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    await process.start()
    await until_ended(process)

    assert process.state.message == "ended with signal 9"
    with pytest.raises(ProcessLookupError):
        _signal_unless_zombie(int(process.state.address))


async def test_a_process_that_does_not_end_when_asked_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = a_process(
        tmp_path,
        monkeypatch,
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
reporter.report(Event(Step.READY, address="http://127.0.0.1:1"))
time.sleep(600)
""",
    )
    await process.start()
    await until_step(process, Step.READY)

    await process.stop(limit_seconds=0.2)

    assert process.state.message == "ended with signal 9"


class Companion:
    """Runs beside a process until it is cancelled."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.is_over = False

    async def run(self, address: str) -> None:
        self.addresses.append(address)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.is_over = True


async def test_what_runs_beside_a_process_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    companion = Companion()
    process = a_process(
        tmp_path,
        monkeypatch,
        """
reporter.report(Event(Step.READY, address="http://127.0.0.1:1"))
time.sleep(600)
""",
        companion,
    )
    await process.start()
    assert companion.addresses == []
    await until_step(process, Step.READY)
    await asyncio.sleep(0)
    assert (companion.addresses, companion.is_over) == (["http://127.0.0.1:1"], False)

    os.kill(process.state.pid, signal.SIGKILL)
    await until_ended(process)

    assert (len(companion.addresses), companion.is_over) == (1, True)


async def test_nothing_runs_beside_a_process_that_was_never_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    companion = Companion()
    program = "reporter.report(Event(Step.STARTING)); sys.exit(1)"
    process = a_process(tmp_path, monkeypatch, program, companion)
    await process.start()

    await until_ended(process)

    assert companion.addresses == []


def _signal_unless_zombie(pid: int) -> None:
    """Raise ProcessLookupError when *pid* is gone, or only waits for its parent."""
    os.kill(pid, 0)
    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
        raise ProcessLookupError
