"""What vLLM loads in each of an engine's processes, before the engine starts there."""

import ctypes
import importlib.abc
import importlib.machinery
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

PARENT_ENV = "TWOFOLD_ENGINE_SERVER"
"""Set by our engine server to its process id: the plugin keeps out of any other vLLM on the
machine, and does not tie the server itself to whoever started it."""

PROGRESS_DELAY_MICROSECONDS = 1000

_BINDINGS = ("nixl_cu12._bindings", "nixl_cu13._bindings")
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
    pace_nixl()


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the one that started it, *parent_pid*, dies.

    vLLM's engine process outlives a server that was killed, with its memory and its ports.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(1)  # it died before the kernel knew


def pace_nixl() -> None:
    """Give NIXL's progress thread a pause between polls.

    nixl 1.5.1's Python agent asks for a delay of 0, which its UCX backend rounds to a poll that
    never waits, not to the millisecond that its comment promises: an idle engine then takes a
    whole core. Events still wake the thread at once, so transfers lose nothing.
    """
    if not any(isinstance(finder, _PacingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PacingFinder())
    for name in _BINDINGS:
        if name in sys.modules:
            _pace(sys.modules[name])


class _PacingFinder(importlib.abc.MetaPathFinder):
    """Finds NIXL's bindings as always, and paces them as soon as they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _BINDINGS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PacingLoader(spec.loader)
        return spec


class _PacingLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _pace(module)


def _pace(bindings: ModuleType) -> None:
    native = bindings.nixlAgent
    if getattr(native, "paced", False):
        return

    class PacedAgent(native):  # type: ignore[misc, valid-type]
        paced = True

        def __init__(self, name: str, config: object) -> None:
            config.pthrDelay = PROGRESS_DELAY_MICROSECONDS  # type: ignore[attr-defined]
            super().__init__(name, config)

    bindings.nixlAgent = PacedAgent  # type: ignore[attr-defined]
