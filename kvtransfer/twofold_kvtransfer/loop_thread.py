"""A thread with an event loop of its own, in which something serves until it is told to end."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from twofold_kvtransfer.switching import switch_sooner

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0

S = TypeVar("S")

_log = logging.getLogger(__name__)


class LoopThread(Generic[S]):
    """Runs one coroutine; *S* is what others may reach of it once it serves.

    It is a daemon, so that it keeps no process from its end.
    """

    def __init__(self, name: str, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """*serve* calls :meth:`note_serving`, and returns when it has been told to end."""
        self._name = name
        self._serve = serve
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._serving: Future[tuple[asyncio.AbstractEventLoop, S]] = Future()

    def start(self) -> None:
        """Return when it serves.

        Raises:
            Exception: what *serve* raised, or there is no thread.
        """
        switch_sooner()
        self._thread.start()
        self._serving.result(START_TIMEOUT_SECONDS)

    def note_serving(self, served: S) -> None:
        """Say, in the thread, that it serves."""
        self._serving.set_result((asyncio.get_running_loop(), served))

    def call(self, action: Callable[[S], object]) -> None:
        """Do *action* in the thread, if that serves; not waited for."""
        if not self._serving.done() or self._serving.exception() is not None:
            return
        loop, served = self._serving.result()
        with suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(action, served)

    def join(self) -> bool:
        """Wait until it has ended, if it was started; tell whether it has."""
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_SECONDS)
        if self._thread.is_alive():
            _log.error("the thread %s does not end", self._name)
            return False
        return True

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001  the edge of the thread
            if not self._serving.done():
                self._serving.set_exception(error)
            else:
                _log.exception("the thread %s has ended", self._name)
