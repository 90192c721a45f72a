"""What vLLM loads in each of an engine's processes, before the engine starts there."""

import ctypes
import importlib.abc
import importlib.machinery
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

PARENT_ENV = "TWOFOLD_ENGINE_SERVER"
"""Set by our engine server to its process id: the plugin keeps out of any other vLLM on the
machine, and does not tie the server itself to whoever started it."""

PROGRESS_DELAY_MICROSECONDS = 1000

_PR_SET_PDEATHSIG = 1


def register() -> None:
    """Entry point of the group ``vllm.general_plugins``; vLLM may call it more than once."""
    server = os.environ.get(PARENT_ENV)
    if server is None:
        return
    if server != str(os.getpid()):
        parent = multiprocessing.parent_process()
        pid = os.getppid() if parent is None else parent.pid
        end_with_parent(pid or os.getppid())
    amend_modules()


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the one that started it, *parent_pid*, dies.

    vLLM's engine process outlives a server that was killed, with its memory and its ports.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(1)  # it died before the kernel knew


def amend_modules() -> None:
    """Change what NIXL and vLLM would do to this process's cores, in modules that are loaded
    already and in those that come."""
    if not any(isinstance(finder, _AmendingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AmendingFinder())
    for name, amend in _AMENDMENTS.items():
        if name in sys.modules:
            amend(sys.modules[name])


def pace_nixl(bindings: ModuleType) -> None:
    """Give NIXL's progress thread a pause between polls.

    nixl 1.5.1's Python agent asks for a delay of 0, which its UCX backend rounds to a poll that
    never waits, not to the millisecond that its comment promises: an idle engine then takes a
    whole core. Events still wake the thread at once, so transfers lose nothing.
    """
    native = bindings.nixlAgent
    if getattr(native, "paced", False):
        return

    class PacedAgent(native):  # type: ignore[misc, valid-type]
        paced = True

        def __init__(self, name: str, config: object) -> None:
            config.pthrDelay = PROGRESS_DELAY_MICROSECONDS  # type: ignore[attr-defined]
            super().__init__(name, config)

    bindings.nixlAgent = PacedAgent  # type: ignore[attr-defined]


def leave_threads_unpinned(platform: ModuleType) -> None:
    """Let a CPU engine run on all of its cores.

    vLLM's NixlConnector pins the thread that makes it to the last core of each NUMA node, to part
    transfers from the model. In our engines that thread runs the model (one process an engine), so
    all engines of a machine would compute on the same core.
    """
    platform.CpuPlatform.discover_numa_topology = classmethod(lambda cls: [])


_AMENDMENTS: Mapping[str, Callable[[ModuleType], None]] = {
    "nixl_cu12._bindings": pace_nixl,
    "nixl_cu13._bindings": pace_nixl,
    "vllm.platforms.cpu": leave_threads_unpinned,
}


class _AmendingFinder(importlib.abc.MetaPathFinder):
    """Finds modules as always, and amends them as soon as they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        amend = _AMENDMENTS.get(fullname)
        if amend is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _AmendingLoader(spec.loader, amend)
        return spec


class _AmendingLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, amend: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._amend = amend

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._amend(module)
