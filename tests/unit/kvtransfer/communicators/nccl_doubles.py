"""Doubles of NCCL and of a GPU, which write down what was called."""

import contextlib
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

BOUND_SECONDS = 30.0
COMM = object()
UINT8 = 1
STREAM = 77
FIRST = 500
"""Where the bytes lie that connect."""
SLOTS = (1000, 2000)


class FakeNccl:
    """Has vLLM's names for NCCL's calls, and fails as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failing: set[str] = set()
        self.aborted = threading.Event()
        self.gpu = FakeGpu()
        self.elsewhere: list[str] = []
        """Calls that were not made on the device."""

    def ncclGetUniqueId(self) -> Any:  # noqa: N802 - NCCL's name is what counts
        if "ncclGetUniqueId" in self.failing:
            raise RuntimeError("NCCL error: ncclGetUniqueId")
        return SimpleNamespace(internal=b"i" * 128)

    def unique_id_from_bytes(self, data: bytes) -> Any:
        if len(data) != 128:
            raise ValueError(f"{len(data)} bytes")
        return SimpleNamespace(internal=data)

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any) -> Any:
            self.calls.append((name, *words))
            if not self.gpu.is_in_use:
                self.elsewhere.append(name)
            if name in self.failing:
                raise RuntimeError(f"NCCL error: {name}")
            if name == "ncclCommAbort":
                self.aborted.set()
            return COMM if name == "ncclCommInitRank" else None

        return call

    def count(self, name: str) -> int:
        return [call[0] for call in self.calls].count(name)


class FakeStream:
    cuda_stream = STREAM

    def __init__(self) -> None:
        self.looks_left = 0
        """Until what was started has ended."""
        self.close_count = 0

    def record_event(self) -> "FakeStream":
        return self

    def query(self) -> bool:
        self.looks_left -= 1
        return self.looks_left < 0

    def close(self) -> None:
        self.close_count += 1


class FakeGpu:
    def __init__(self) -> None:
        self.stream = FakeStream()
        self.is_in_use = False
        self.is_full = False

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        self.is_in_use = True
        try:
            yield
        finally:
            self.is_in_use = False

    def memory(self, size_bytes: int) -> Any:
        return SimpleNamespace(data_ptr=lambda: FIRST)

    def buffers(self, blocks: Any, size_bytes: int) -> Any:
        if self.is_full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        slots = [SimpleNamespace(data_ptr=lambda at=at: at) for at in SLOTS]
        return SimpleNamespace(slots=slots, load=None, unload=None)

    def open_stream(self) -> FakeStream:
        return self.stream
