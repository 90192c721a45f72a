"""Traces in CSV, which tell lengths only: no prompt shares anything with another.

Azure's (github.com/Azure/AzurePublicDataset, LLM inference traces of 2023 and 2024) tell the time
of day; BurstGPT's (Y. Wang et al., arXiv 2401.17644) seconds, and 0 response tokens of a request
that failed. Columns are found by their names, so those that a later release adds do not matter.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

from twofold_sim.workloads.errors import WorkloadError
from twofold_sim.workloads.prompt import BLOCK_TOKENS, MOST_TOKENS, Prompt


class Columns(NamedTuple):
    """Of one kind of trace, the names, and how its time is read, in seconds."""

    time: str
    prompt_tokens: str
    output_tokens: str
    seconds: Callable[[str], float]


def azure_seconds(text: str) -> float:
    """Read ``2023-11-16 18:15:46.6805900``, whose last digit of seven Python does not know, or
    ``2024-05-10 00:00:00.009930+00:00``."""
    whole, point, rest = text.strip().partition(".")
    cut = next((index for index, sign in enumerate(rest) if not sign.isdigit()), len(rest))
    fraction, zone = rest[:cut], rest[cut:]
    moment = datetime.fromisoformat(whole + (point and zone))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


AZURE = Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", azure_seconds)
BURSTGPT = Columns("Timestamp", "Request tokens", "Response tokens", float)


def columns_of(header: str) -> Columns | None:
    """Return the columns of the kind of trace that *header* begins, None if it is of no kind."""
    try:
        names = set(_names(next(csv.reader([header], strict=True, skipinitialspace=True), [])))
    except csv.Error:
        return None
    return next((known for known in (AZURE, BURSTGPT) if names.issuperset(known[:3])), None)


def csv_prompts(path: Path, lines: Iterable[str], columns: Columns) -> Iterator[Prompt]:
    """Read *lines*, those of the file *path*, of which the first that is not empty is the header.
    Requests without a prompt or that failed are left out.

    Raises:
        WorkloadError: a line is not of this form.
    """
    new_block = count()
    reader = csv.DictReader(lines, strict=True, skipinitialspace=True)
    try:
        reader.fieldnames = next(filter(any, map(_names, reader.reader)))
        for row in reader:
            try:
                at = columns.seconds(row[columns.time])
                if not math.isfinite(at):
                    raise ValueError(f"{columns.time} must be a time, not {row[columns.time]!r}")
                prompt_tokens = _whole(row, columns.prompt_tokens)
                output_tokens = _whole(row, columns.output_tokens)
            except (TypeError, ValueError) as error:
                raise WorkloadError(f"{path}, line {reader.line_num}: {error}") from error
            if prompt_tokens < 1 or output_tokens < 1:
                continue
            block_count = -(-prompt_tokens // BLOCK_TOKENS)
            yield Prompt(
                at=at,
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
                block_ids=tuple(next(new_block) for _ in range(block_count)),
            )
    except csv.Error as error:
        raise WorkloadError(f"{path}, line {reader.reader.line_num}: {error}") from error


def _names(header: Iterable[str]) -> list[str]:
    return [name.strip() for name in header]


def _whole(row: Mapping[str, str], name: str) -> int:
    """Read a number of tokens; some tools write ``472.0``."""
    text = row[name]
    if text is None:
        raise ValueError(f"{name} is missing")
    number = float(text)
    if not math.isfinite(number) or number < 0 or number != int(number):
        raise ValueError(f"{name} must be a whole number of tokens, not {text!r}")
    if number > MOST_TOKENS:
        raise ValueError(f"{name} must be at most {MOST_TOKENS:,} tokens, not {text!r}")
    return int(number)
