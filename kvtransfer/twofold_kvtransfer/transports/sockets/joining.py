"""The end of threads."""

import logging
import threading
import time
from collections.abc import Iterable

_log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
"""For all threads to end at a close. They are woken, so only a starved host needs so long."""


def join_all(threads: Iterable[threading.Thread], seconds: float = CLOSE_SECONDS) -> None:
    """Wait until all *threads* have ended, at most *seconds*; tell if one has not."""
    give_up_at = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
        if thread.is_alive():
            _log.error("a thread does not end", extra={"thread_name": thread.name})
