"""NIXL's agent, as far as the transport uses it, and how one is made."""

import importlib
import importlib.metadata
import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.transports.nixl.settings import UCX_VARIABLES, NixlSettings
from twofold_kvtransfer.vllm_plugin import pace_nixl

NIXL_ERRORS = (
    "nixlBackendError",
    "nixlCancelledError",
    "nixlInvalidParamError",
    "nixlMismatchError",
    "nixlNotAllowedError",
    "nixlNotFoundError",
    "nixlNotPostedError",
    "nixlNotSupportedError",
    "nixlRemoteDisconnectError",
    "nixlRepostActiveError",
    "nixlUnknownError",
)
"""NIXL's exceptions have no class in common."""


MEMORY_TYPES = {"dram": "DRAM", "vram": "VRAM"}


class NixlMissingError(TwofoldError):
    """There is no NIXL in this process, or it does not start."""


class Handle(Protocol):
    """NIXL's transfer or prepared list; gone from NIXL after ``release``."""

    def release(self) -> None: ...


class Agent(Protocol):
    """What the transport calls of ``nixl._api.nixl_agent`` (1.5.1)."""

    def register_memory(self, reg_list: Any, mem_type: str) -> Any: ...
    def get_agent_metadata(self) -> bytes: ...
    def add_remote_agent(self, metadata: bytes) -> str: ...
    def remove_remote_agent(self, agent: str) -> None: ...
    def prep_xfer_dlist(self, agent_name: str, xfer_list: Any, mem_type: str) -> Handle: ...
    def make_prepped_xfer(
        self, operation: str, local: Any, local_indices: Any, remote: Any, remote_indices: Any
    ) -> Handle: ...
    def transfer(self, handle: Any) -> str: ...
    def check_xfer_state(self, handle: Any) -> str: ...


Errors = tuple[type[Exception], ...]
MakeAgent = Callable[[str, NixlSettings], tuple[Agent, Errors]]
"""Makes an agent of that name, and tells the exceptions that it raises."""


def make_agent(name: str, settings: NixlSettings) -> tuple[Agent, Errors]:
    """Start an agent with the UCX backend.

    Raises:
        NixlMissingError: NIXL is not installed, or UCX finds none of the devices asked for.
    """
    try:
        bindings = importlib.import_module("nixl._bindings")
        api = importlib.import_module("nixl._api")
    except ImportError as error:
        raise NixlMissingError(f"the nixl transport needs the package nixl: {error}") from error
    errors = tuple(getattr(bindings, each) for each in NIXL_ERRORS)
    pace_nixl(bindings)
    _log_like_the_others()
    config = api.nixl_agent_config(num_threads=settings.thread_count)
    try:
        return api.nixl_agent(name, config), errors
    except errors as error:
        told = [f"{name}={os.environ[name]}" for name in UCX_VARIABLES if name in os.environ]
        with_what = " ".join(told) or "UCX as it is"
        raise NixlMissingError(f"NIXL does not start with {with_what}: {error}") from error


def nixl_version() -> str:
    """Return major and minor version, which two sides must have in common; empty without NIXL."""
    try:
        return ".".join(importlib.metadata.version("nixl").split(".")[:2])
    except importlib.metadata.PackageNotFoundError:
        return ""


def _log_like_the_others() -> None:
    """Undo what NIXL sets up when it is loaded: a handler of its own that writes to stdout."""
    logger = logging.getLogger("nixl")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.WARNING)
