"""What a worker's process tells its supervisor, one JSON object a line."""

import enum
import os

import msgspec

from twofold_cluster.identity import Role


class Step(enum.StrEnum):
    """How far a worker has come; each is passed once, in this order."""

    IMPORTING = "importing vLLM"
    STARTING = "starting the engine"
    PROBING = "generating the first token"
    READY = "ready"
    DRAINING = "draining"


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    step: Step
    address: str | None = None
    role: Role | None = None
    warning: str | None = None
    """What is not as it was asked for, though the worker works."""


class Reporter:
    """Writes events to a file descriptor, or nowhere. A supervisor that has gone is no error:
    the kernel ends this process with it."""

    def __init__(self, events_fd: int | None) -> None:
        self._events_fd = events_fd

    def report(self, event: Event) -> None:
        if self._events_fd is None:
            return
        try:
            os.write(self._events_fd, msgspec.json.encode(event) + b"\n")
        except BrokenPipeError:
            self._events_fd = None
