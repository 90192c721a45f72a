"""A communicator of NCCL's and the stream of its kernels."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

_log = logging.getLogger(__name__)

_UINT8 = 1
"""``ncclUint8`` in nccl.h."""


class Link:
    """Owns both, and *first*; one thread at a time uses it. Closing it more than once is fine."""

    def __init__(
        self,
        nccl: Any,
        rank: int,
        stream: Any,
        first: Any,
        on_device: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """*stream* has what ``gpu.OwnStream`` has. *first* is a tensor of the two bytes that make
        the connections. CUDA's and NCCL's calls are made within *on_device*."""
        self._nccl = nccl
        self._rank = rank
        self._stream = stream
        self._first = first
        self._on_device = on_device
        self._comm: Any = None
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def connect(self, unique_id: Any) -> None:
        """Make the communicator and start a byte each way: with the first bytes NCCL makes its
        connections, and waits for the peer.

        Raises:
            RuntimeError: NCCL fails.
        """
        nccl, at = self._nccl, self._first.data_ptr()
        with self._on_device():
            self._comm = nccl.ncclCommInitRank(2, unique_id, self._rank)
            nccl.ncclGroupStart()
            self._call(nccl.ncclSend, at, 1)
            self._call(nccl.ncclRecv, at + 1, 1)
            nccl.ncclGroupEnd()

    def send(self, pointer: int, size_bytes: int) -> Any:
        """Return the event of its end.

        Raises:
            RuntimeError: NCCL fails.
        """
        return self._start(self._nccl.ncclSend, pointer, size_bytes)

    def receive(self, pointer: int, size_bytes: int) -> Any:
        """Return the event of its end.

        Raises:
            RuntimeError: NCCL fails.
        """
        return self._start(self._nccl.ncclRecv, pointer, size_bytes)

    def close(self) -> None:
        """Abort the communicator: to destroy it in good order NCCL would wait for the peer."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._comm is not None:
            self._end(lambda: self._nccl.ncclCommAbort(self._comm))
        self._end(self._stream.close)

    def _start(self, call: Callable[..., None], pointer: int, size_bytes: int) -> Any:
        with self._on_device():
            self._call(call, pointer, size_bytes)
            return self._stream.record_event()

    def _call(self, call: Callable[..., None], pointer: int, size_bytes: int) -> None:
        peer, stream = 1 - self._rank, self._stream.cuda_stream
        call(pointer, size_bytes, _UINT8, peer, self._comm, stream)

    def _end(self, end: Callable[[], None]) -> None:
        try:
            with self._on_device():
                end()
        except RuntimeError:
            _log.exception("a communicator of NCCL's was not ended in order")
