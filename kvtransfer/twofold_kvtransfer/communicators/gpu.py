"""The GPU of NCCL's communicators, and the streams on it."""

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.communicators.device_buffers import DeviceBuffers, cuda_rows_at

_NON_BLOCKING = 1
"""``CU_STREAM_NON_BLOCKING`` in cuda.h: the default stream and this one do not await each other."""


class Gpu:
    """Owns the stream on which all buffers are filled and emptied."""

    def __init__(self, number: int) -> None:
        self._device = torch.device("cuda", number)
        self._copies = torch.cuda.Stream(self._device)
        self._driver = Driver(number, ctypes.CDLL("libcuda.so.1"))

    def use(self) -> AbstractContextManager[Any]:
        """Make it the thread's own for as long as that is entered."""
        used: AbstractContextManager[Any] = torch.cuda.device(self._device)
        return used

    def memory(self, size_bytes: int) -> torch.Tensor:
        return torch.empty(size_bytes, dtype=torch.uint8, device=self._device)

    def buffers(self, blocks: BlockMap, size_bytes: int) -> DeviceBuffers:
        with self.use():
            return DeviceBuffers(blocks, size_bytes, self._device, self._copying, cuda_rows_at)

    def open_stream(self) -> "OwnStream":
        with self.use():
            return OwnStream(self._driver, self._device)

    @contextmanager
    def _copying(self) -> Iterator[None]:
        with self.use(), torch.cuda.stream(self._copies):
            yield
        self._copies.synchronize()


class OwnStream:
    """A stream that nobody else has. PyTorch lends the same 32 to all who ask, the engine too, and
    behind a kernel of NCCL's that waits for the peer their work would wait."""

    def __init__(self, driver: "Driver", device: torch.device) -> None:
        self._driver = driver
        self.cuda_stream = driver.open_stream()
        self._stream = torch.cuda.ExternalStream(self.cuda_stream, device=device)

    def record_event(self) -> Any:
        return self._stream.record_event()

    def close(self) -> None:
        """What still runs on it goes on; CUDA gives it back after that."""
        self._driver.close_stream(self.cuda_stream)


class Driver:
    """The few calls of CUDA's driver that PyTorch has no name for."""

    def __init__(self, number: int, library: Any) -> None:
        """*library* is libcuda, which PyTorch has initialised."""
        self._library = library
        device = ctypes.c_int()
        # That which PyTorch uses; it is kept for as long as the process lives.
        self._context = ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), number)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def open_stream(self) -> int:
        """Raises:
        RuntimeError: CUDA has none.
        """
        stream = ctypes.c_void_p()
        self._call("cuCtxSetCurrent", self._context)
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        assert stream.value is not None
        return stream.value

    def close_stream(self, stream: int) -> None:
        self._call("cuCtxSetCurrent", self._context)
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def _call(self, name: str, *words: Any) -> None:
        code = getattr(self._library, name)(*words)
        if code != 0:
            raise RuntimeError(f"{name} of CUDA's driver failed with {code}")
