"""Traces in the form of Mooncake's: a JSON object a line.

R. Qin et al., "Mooncake: trading more storage for less computation", FAST 2025: ``timestamp`` in
milliseconds, ``input_length`` and ``output_length`` in tokens, and in ``hash_ids`` one id for each
block of 512 tokens, the last of which may be part of one.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from twofold_sim.workloads.errors import WorkloadError
from twofold_sim.workloads.keys import ID_BYTES
from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt


class _Row(msgspec.Struct, frozen=True):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: Annotated[int, msgspec.Meta(ge=1)]
    output_length: Annotated[int, msgspec.Meta(ge=0)]
    hash_ids: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]


def mooncake_prompts(path: Path, lines: Iterable[str]) -> Iterator[Prompt]:
    """Read *lines*, those of the file *path*; empty ones are passed over.

    Raises:
        WorkloadError: a line is not of this form.
    """
    decode = msgspec.json.Decoder(_Row).decode
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except msgspec.DecodeError as error:
            raise WorkloadError(f"{path}, line {number}: {error}") from error
        block_count = -(-row.input_length // BLOCK_TOKENS)
        if len(row.hash_ids) != block_count:
            raise WorkloadError(
                f"{path}, line {number}: {row.input_length} tokens are {block_count} blocks of "
                f"{BLOCK_TOKENS}, but hash_ids has {len(row.hash_ids)}"
            )
        if max(row.hash_ids).bit_length() > 8 * ID_BYTES:
            raise WorkloadError(
                f"{path}, line {number}: an id of hash_ids has more than {ID_BYTES} bytes"
            )
        yield Prompt(
            at=row.timestamp / 1000,
            prompt_tokens=row.input_length,
            output_tokens=max(row.output_length, 1),
            block_ids=row.hash_ids,
        )
