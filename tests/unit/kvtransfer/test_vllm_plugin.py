"""In processes of their own: what the plugin changes is the process that it is loaded in."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twofold_kvtransfer.vllm_plugin import PARENT_ENV, PROGRESS_DELAY_MICROSECONDS

TIMEOUT_SECONDS = 30

BINDINGS = """
class nixlAgentConfig:
    pthrDelay = 0


class nixlAgent:
    agent_count = 0

    def __init__(self, name, config):
        nixlAgent.agent_count += 1
        self.name, self.delay = name, config.pthrDelay
"""

REGISTER = "from twofold_kvtransfer.vllm_plugin import register; register()"
LOAD = "from nixl_cu12 import _bindings"
SHOW_DELAY = """
agent = _bindings.nixlAgent("agent", _bindings.nixlAgentConfig())
print(agent.name, agent.delay, agent.agent_count)
"""

CHILD = """
import os, time
from twofold_kvtransfer.vllm_plugin import register
register()
print("child", os.getpid(), flush=True)
time.sleep(60)
"""

# Our engine server names itself in the variable.
SERVER = f"""
import os
os.environ["{PARENT_ENV}"] = str(os.getpid())
{CHILD}"""

PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""

IDLE_AGENT = """
import resource, time
from nixl_cu12._api import nixl_agent, nixl_agent_config
agent = nixl_agent("idle", nixl_agent_config(backends=["UCX"]))

def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

before = cpu_seconds()
time.sleep(2)
print(cpu_seconds() - before)
"""

REAL_DELAY = """
from nixl_cu12 import _bindings
config = _bindings.nixlAgentConfig()
config.pthrDelay = 0
_bindings.nixlAgent("agent", config)
print(config.pthrDelay)
"""

ASK_FOR_CORES = """
from vllm.platforms.cpu import CpuPlatform
print(CpuPlatform.discover_numa_topology())
"""


needs_nixl = pytest.mark.skipif(
    importlib.util.find_spec("nixl_cu12") is None,  # not imported: a process takes one build only
    reason="the package nixl is not installed",
)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with a package that is loaded as NIXL's is, and takes its place."""
    package = tmp_path / "nixl_cu12"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_bindings.py").write_text(BINDINGS)
    return tmp_path


def test_nixl_is_paced_when_it_is_loaded_after_the_plugin(stand_in: Path) -> None:
    assert _output(REGISTER, LOAD, SHOW_DELAY, path=stand_in) == "agent 1000 1"


def test_nixl_is_paced_when_it_was_loaded_before_the_plugin(stand_in: Path) -> None:
    assert _output(LOAD, REGISTER, SHOW_DELAY, path=stand_in) == "agent 1000 1"


def test_a_second_registration_changes_nothing(stand_in: Path) -> None:
    output = _output(
        REGISTER,
        "import sys; before = list(sys.meta_path)",
        LOAD,
        "paced = _bindings.nixlAgent",
        REGISTER,
        "print(sys.meta_path == before, _bindings.nixlAgent is paced)",
        path=stand_in,
    )

    assert output == "True True"


@pytest.mark.parametrize("order", [(REGISTER, LOAD), (LOAD, REGISTER)])
def test_nothing_is_paced_outside_our_engines(stand_in: Path, order: tuple[str, str]) -> None:
    output = _output(*order, SHOW_DELAY, path=stand_in, ours=False)

    assert output == "agent 0 1"


def test_a_process_ends_with_the_one_that_started_it() -> None:
    output = _output_after_the_parent_is_killed(CHILD, ours=True)

    assert output == b""  # the child held the pipe open as long as it lived


@pytest.mark.parametrize("program", [CHILD, SERVER])
def test_a_server_and_what_is_not_ours_outlive_the_one_that_started_them(program: str) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        _output_after_the_parent_is_killed(program, ours=False, timeout_seconds=1)


def test_nixl_is_paced_in_the_server_too(stand_in: Path) -> None:
    name_itself = f"import os; os.environ['{PARENT_ENV}'] = str(os.getpid())"

    assert _output(name_itself, REGISTER, LOAD, SHOW_DELAY, path=stand_in) == "agent 1000 1"


@needs_nixl
def test_the_delay_of_the_real_nixl_is_set() -> None:
    assert _output(REGISTER, REAL_DELAY) == str(PROGRESS_DELAY_MICROSECONDS)


@needs_nixl
def test_an_idle_agent_of_the_real_nixl_takes_no_core() -> None:
    cpu_seconds = float(_output(REGISTER, IDLE_AGENT).splitlines()[-1])

    assert cpu_seconds < 0.2


@pytest.mark.parametrize("order", [(REGISTER, ASK_FOR_CORES), (ASK_FOR_CORES, REGISTER)])
def test_the_connector_is_given_no_core_to_pin_the_engine_to(order: tuple[str, str]) -> None:
    pytest.importorskip("vllm.platforms.cpu")

    assert _output(*order, ASK_FOR_CORES).splitlines()[-1] == "[]"


def _output(*program: str, path: Path | None = None, ours: bool = True) -> str:
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        env=_environment(ours, path),
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def _output_after_the_parent_is_killed(
    program: str, *, ours: bool, timeout_seconds: float = 10
) -> bytes:
    """Kill a process whose child, *program*, has loaded the plugin; return what it still says.

    Raises:
        TimeoutExpired: the child lives on. It is killed then.
    """
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, program], env=_environment(ours), stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline().removeprefix(b"child "))
        parent.kill()
        try:
            output, _ = parent.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.kill(child_pid, signal.SIGKILL)
            raise
        return output


def _environment(ours: bool, path: Path | None = None) -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop(PARENT_ENV, None)
    if ours:
        environment[PARENT_ENV] = "1"
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return environment
