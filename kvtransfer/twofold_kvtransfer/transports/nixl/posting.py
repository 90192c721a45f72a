"""The thread that hands large transfers to NIXL."""

import logging
import queue
import threading
from collections.abc import Callable

from twofold_kvtransfer.transports.nixl.transfer import NixlTransfer

END_SECONDS = 30.0
"""What is being handed over when the thread shall end is at most a copy of some gigabytes."""

_log = logging.getLogger(__name__)


class Poster:
    """Posts what is put, one transfer at a time and in that order, until it is closed.

    Through shared memory NIXL copies while a transfer is posted (a second for two gigabytes), which
    no caller who promised not to block can wait for. NIXL lets other Python threads run meanwhile.
    """

    def __init__(self, post: Callable[[NixlTransfer], None]) -> None:
        self._post = post
        self._waiting: queue.SimpleQueue[NixlTransfer | None] = queue.SimpleQueue()
        self._left = 0
        self._left_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="nixl-poster", daemon=True)
        self._thread.start()

    @property
    def left(self) -> int:
        """How many wait or are being posted."""
        return self._left

    def put(self, transfer: NixlTransfer) -> None:
        with self._left_lock:
            self._left += 1
        self._waiting.put(transfer)

    def close(self) -> None:
        """End the thread, after what waits: the owner has made that unwanted."""
        self._waiting.put(None)
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            _log.warning("nixl's thread is still posting", extra={"waited_seconds": END_SECONDS})

    def _run(self) -> None:
        while (transfer := self._waiting.get()) is not None:
            try:
                self._post(transfer)
            except Exception:  # noqa: BLE001 - an edge loop: logged, and the thread goes on
                _log.exception("a transfer could not be posted")
                transfer.end("our own fault: see the log")
            finally:
                with self._left_lock:
                    self._left -= 1
