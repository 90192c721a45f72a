"""What a local cluster is to be, as ``up`` hands it to its supervisor."""

import sys
from typing import Literal

import msgspec

Device = Literal["cpu", "cuda", "sim"]
"""``sim``: engines without a model, which compute nothing."""


def module_command(module: str) -> tuple[str, ...]:
    """Return how *module* is run. ``-P``: the user's folder must not shadow what it imports."""
    return (sys.executable, "-P", "-m", module)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One local cluster. It crosses a process boundary as JSON, so it is a Struct."""

    model: str
    """A directory or a hub's name, as vLLM takes it."""
    served_name: str
    """The name that clients send."""
    device: Device
    valkey_command: tuple[str, ...]
    """The server's binary; its flags are added."""
    pools_command: tuple[str, ...] = module_command("twofold_engine.pools")
    router_command: tuple[str, ...] = module_command("twofold_router")
    service: str = "local"
    prefill: int = 1
    """Worker count; 0 serves without disaggregation."""
    decode: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    kv_cache_gib: float = 1.0
    """Of each CPU worker. A GPU worker takes what vLLM finds free."""
    kv_events: bool = False
    """Have the router follow exactly what the engines have cached."""
    directory_holdings: int | None = None
    """Most that the block directory lists; None: its own limit."""
    connector: str = "nixl"
    """What moves cache blocks between vLLM engines."""
    transport: str = "nixl"
    """What the connector ``twofold`` moves them over."""
    compression: str = "off"
    """What the transport ``tcp`` may code them with."""
    verify: bool = True
    """Have the connector ``twofold`` compare what it moved with what was sent."""
    engine_args: tuple[str, ...] = ()
    router_args: tuple[str, ...] = ()
    deaths_to_fail: int = 3
    """A pool manager or router that ends this often before the cluster was ever ready will not
    get better by itself."""
    stall_limit_seconds: float = 1800.0
    """A start in which nothing changes for this long has failed. A download shows no progress, so
    it is long."""
    router_grace_seconds: float = 25.0
    """From SIGTERM to SIGKILL: the router finishes what it relays."""
    pools_grace_seconds: float = 40.0
    """Engines end their requests, then give their memory back."""
    valkey_grace_seconds: float = 5.0
