"""A trace from a file, of whichever form it is."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TextIO

from twofold_sim.workloads.csv_traces import AZURE, BURSTGPT, columns_of, csv_prompts
from twofold_sim.workloads.errors import WorkloadError
from twofold_sim.workloads.mooncake import mooncake_prompts
from twofold_sim.workloads.prompt import Prompt
from twofold_sim.workloads.shaping import from_zero

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"PK": "zip",
}


def read_trace(path: Path) -> list[Prompt]:
    """Read the trace *path*, in order of the arrivals, of which the first is at 0.

    Its first line that is not empty tells whether it is of Mooncake's form, of Azure's or of
    BurstGPT's.

    Raises:
        WorkloadError: it cannot be read, is of no form that is known, or is empty.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            prompts = list(_prompts(path, file))
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: {_undecodable(error)}") from error
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror}") from error
    if not prompts:
        raise WorkloadError(f"{path}: there is no request in it")
    return from_zero(prompts)


def _undecodable(error: UnicodeDecodeError) -> str:
    """Say what a file is that is no text, by the bytes that it begins with."""
    for begin, name in _PACKED.items():
        if error.object.startswith(begin):
            return f"it is packed with {name}; unpack it first"
    return str(error)


def _prompts(path: Path, file: TextIO) -> Iterator[Prompt]:
    empty = []
    while (first := file.readline()).isspace():
        empty.append(first)
    lines = chain(empty, (first,), file)
    if first.lstrip().startswith("{"):
        return mooncake_prompts(path, lines)
    columns = columns_of(first)
    if columns is None:
        forms = " or ".join(", ".join(known[:3]) for known in (AZURE, BURSTGPT))
        raise WorkloadError(
            f"{path}, line {len(empty) + 1}: neither a JSON object nor a header with {forms}: "
            f"{first.strip()!r}"
        )
    return csv_prompts(path, lines, columns)
