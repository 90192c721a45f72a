"""Profiles from Splitwise's measurements of Llama2-70B and BLOOM-176B on A100 and H100.

They are fitted already in ``data/splitwise.json``; their sources say how well.

The table is ``data/perf_model.csv`` of github.com/Mutinifni/splitwise-sim (MIT), which came with
Splitwise (arXiv 2311.18677). It has the milliseconds of a batch of prompts, and of a token of a
batch after it, by prompt size, batch size, tokens to generate and tensor parallelism.

What the table does not have is computed:

- ``kv_capacity_tokens``: 0.9 of the GPUs' memory (80 GiB each) less the weights (2 bytes a
  parameter), over the bytes of a token, which are 2 (key and value) * 2 bytes * layers * KV heads *
  the size of a head.
- ``transfer``: the bytes of a token over one InfiniBand link of the clusters in the paper, 200 Gb/s
  beside an A100 and 400 Gb/s beside an H100, after the 8 and 5 ms by which the paper sees a
  transfer delay the second token.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from twofold_sim.profiles.fit import Sample, fit_step_costs
from twofold_sim.profiles.profile import Profile, TransferCosts

GPU_MEMORY_BYTES = 80 * 2**30
MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Model:
    parameters: float
    layers: int
    kv_heads: int
    head_size: int
    max_model_tokens: int
    """More than the models were trained for, but not than was measured."""
    trained_tokens: int
    """By the models' cards."""

    @property
    def kv_token_bytes(self) -> int:
        return 2 * 2 * self.layers * self.kv_heads * self.head_size

    def kv_capacity_tokens(self, gpu_count: int) -> int:
        free = MEMORY_SHARE * gpu_count * GPU_MEMORY_BYTES - 2 * self.parameters
        return int(free // self.kv_token_bytes)


MODELS = {
    "llama2-70b": Model(68.98e9, 80, 8, 128, 16_384, 4096),
    "bloom-176b": Model(176.25e9, 70, 112, 128, 16_384, 2048),
}

TRANSFERS = {"a100-80gb": (0.008, 200e9 / 8), "h100-80gb": (0.005, 400e9 / 8)}
"""Seconds before a transfer, and bytes a second in it."""


@dataclass(frozen=True, slots=True)
class _Row:
    """The medians of the runs of one setting."""

    prompt_size: int
    batch_size: int
    token_size: int
    prompt_seconds: float
    token_seconds: float


def fit_splitwise(path: Path) -> list[Profile]:
    """Fit a profile to each model, GPU and tensor parallelism in the table at *path*."""
    return [
        _fit_one(model, hardware, gpu_count, rows)
        for (model, hardware, gpu_count), rows in sorted(_read(path).items())
    ]


def _read(path: Path) -> dict[tuple[str, str, int], list[_Row]]:
    runs = defaultdict(list)
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["model"] in MODELS and row["hardware"] in TRANSFERS:
                kind = row["model"], row["hardware"], int(row["tensor_parallel"])
                size = int(row["prompt_size"]), int(row["batch_size"]), int(row["token_size"])
                runs[kind, size].append((float(row["prompt_time"]), float(row["token_time"])))
    table = defaultdict(list)
    for (kind, size), times in sorted(runs.items()):
        prompt_ms, token_ms = (median(column) for column in zip(*times, strict=True))
        table[kind].append(_Row(*size, prompt_ms / 1000, token_ms / 1000))
    return {kind: _those_in_one_piece(rows) for kind, rows in table.items()}


def _those_in_one_piece(rows: list[_Row]) -> list[_Row]:
    """Leave those out that are faster than a smaller batch of the same prompts: they did not fit
    the memory, and were computed in pieces."""
    return [
        row
        for row in rows
        if not any(
            other.prompt_size == row.prompt_size
            and other.batch_size < row.batch_size
            and other.prompt_seconds > 1.1 * row.prompt_seconds
            for other in rows
        )
    ]


def _fit_one(model: str, hardware: str, gpu_count: int, rows: list[_Row]) -> Profile:
    fit = fit_step_costs([sample for row in rows for sample in _samples(row)])
    latency, bytes_per_second = TRANSFERS[hardware]
    sizes = MODELS[model]
    gpu = hardware.removesuffix("-80gb")
    return Profile(
        name=f"{model}-{gpu}-tp{gpu_count}",
        source=(
            "fitted to Splitwise's measurements (arXiv 2311.18677; Mutinifni/splitwise-sim, "
            "data/perf_model.csv, MIT), with relative errors of "
            f"{fit.residuals.median:.1%} (median) and {fit.residuals.p90:.1%} (p90); "
            "KV capacity and transfer computed, see splitwise.py"
        ),
        steps=fit.steps,
        transfer=TransferCosts(
            latency_seconds=latency, per_token=sizes.kv_token_bytes / bytes_per_second
        ),
        kv_capacity_tokens=sizes.kv_capacity_tokens(gpu_count),
        max_model_tokens=sizes.max_model_tokens,
        trained_tokens=sizes.trained_tokens,
        gpu_count=gpu_count,
    )


def _samples(row: _Row) -> list[Sample]:
    """Return the prompts' one step, and a step of generating in the middle."""
    prompt, batch = row.prompt_size, row.batch_size
    generated = fmean((1, row.token_size))
    return [
        Sample(
            row.prompt_seconds,
            prefill_tokens=batch * prompt,
            prefill_pairs=batch * prompt * (prompt + 1) / 2,
        ),
        Sample(
            row.token_seconds,
            sequence_count=batch,
            context_tokens=batch * (prompt + generated),
        ),
    ]
