"""``python -m benchmarks.kv_codecs``: what the codecs of the KV cache cost, and when they pay.

First the codecs on this processor: GB/s of the cache, encoded and decoded, and how many times
smaller the payload is. The blocks are those of the built-in model for a text, packed as vLLM's CPU
backend packs them. Each figure is the best of some rounds.

Then links of 1 to 100 Gbit/s: what it takes to move blocks with each codec, and with what the
controller chooses, from its general assumptions on, against ``none``. Coding takes what was
measured here, a link exactly its bandwidth and latency: the transfers are simulated. The goal is
for all of a link's transfers together, those in which the controller still learned among them.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from benchmarks.kv_of_model import load_model, shape_of, sides_of, to_blocks
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from twofold_kvtransfer.codecs import (
    CodecName,
    Controller,
    ControllerSettings,
    KvShape,
    Link,
    Measured,
    Quality,
)
from twofold_kvtransfer.codecs.coding import Coder

CODECS: tuple[CodecName, ...] = ("none", "lossless", "int8", "fp8", "int4")
DTYPES = ("bfloat16", "float32")
THREAD_COUNTS = (1, 2)
TOKENS = 1024
GIGA = 1e9

LINKS_GBIT = (1, 5, 25, 100)
LATENCY_SECONDS = 1e-4
TRANSFERS = 500
MOVED_BLOCKS = 16
SLOWER_GOAL = 1.03


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    dtype: str
    codec: CodecName
    threads: int
    encode_gb_per_second: float
    decode_gb_per_second: float
    ratio: float
    encode_seconds: float
    """Of ``size_bytes``, as is the next."""
    decode_seconds: float
    size_bytes: int
    payload_bytes: int


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """MOVED_BLOCKS over a link, in milliseconds."""

    gbit: int
    quality: str
    by_codec: dict[str, float]
    chosen: dict[str, int]
    """How often the controller took each codec."""
    controller: float
    """On average over all transfers."""
    against_none: float


def blocks_of_text(model: Any, tokenizer: Any) -> tuple[torch.Tensor, KvShape]:
    """Return the cache of the model for a text of TOKENS tokens."""
    folder = Path(__file__).parent.parent
    text = "\n".join(path.read_text() for path in sorted(folder.glob("*.md")))
    ids = tokenizer(text, return_tensors="pt").input_ids[:, :TOKENS]
    with torch.no_grad():
        sides = sides_of(model(ids, use_cache=True).past_key_values)
    # Twice, so that a layer has the 16 blocks of a request.
    blocks = to_blocks(sides)
    return torch.cat([blocks, blocks], dim=1), shape_of(sides)


def measure(
    codec: CodecName, blocks: torch.Tensor, shape: KvShape, threads: int, rounds: int
) -> Cost:
    size_bytes = shape.size_bytes(blocks.shape[1])
    out = torch.empty_like(blocks)
    room = torch.empty(size_bytes + (1 << 20), dtype=torch.uint8)
    with Coder(threads) as coder:
        payload = coder.encode(codec, blocks, shape, room)
        encoding = best_of(rounds, lambda: coder.encode(codec, blocks, shape, room))
        decoding = best_of(rounds, lambda: coder.decode(payload, shape, out))
    return Cost(
        dtype=shape.dtype,
        codec=codec,
        threads=threads,
        encode_gb_per_second=size_bytes / encoding / GIGA,
        decode_gb_per_second=size_bytes / decoding / GIGA,
        ratio=size_bytes / len(payload),
        encode_seconds=encoding,
        decode_seconds=decoding,
        size_bytes=size_bytes,
        payload_bytes=len(payload),
    )


def best_of(rounds: int, work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def moving(cost: Cost, link: Link) -> Measured:
    """Return what a transfer takes; ``none`` is not coded but moved from where it lies."""
    codes = cost.codec != "none"
    return Measured(
        payload_bytes=cost.payload_bytes,
        move_seconds=link.latency_seconds + cost.payload_bytes / link.bytes_per_second,
        encode_seconds=cost.encode_seconds if codes else 0.0,
        decode_seconds=cost.decode_seconds if codes else 0.0,
    )


def seconds_of(measured: Measured) -> float:
    assert measured.move_seconds is not None
    return measured.encode_seconds + measured.move_seconds + measured.decode_seconds


def move(costs: dict[CodecName, Cost], gbit: int, quality: Quality) -> Moved:
    link = Link(f"{gbit} Gbit/s", gbit * GIGA / 8, LATENCY_SECONDS)
    controller = Controller(ControllerSettings(quality=quality))
    chosen: dict[str, int] = {}
    taken = 0.0
    for _ in range(TRANSFERS):
        choice = controller.choose(costs["none"].size_bytes, link)
        measured = moving(costs[choice.codec], link)
        controller.learn(choice, measured)
        chosen[choice.codec] = chosen.get(choice.codec, 0) + 1
        taken += seconds_of(measured)
    by_codec = {codec: seconds_of(moving(cost, link)) for codec, cost in costs.items()}
    return Moved(
        gbit=gbit,
        quality=quality.name.lower(),
        by_codec={codec: seconds * 1000 for codec, seconds in by_codec.items()},
        chosen=chosen,
        controller=taken / TRANSFERS * 1000,
        against_none=taken / TRANSFERS / by_codec["none"],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, one dtype")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    machine = describe_machine(("torch", "numpy"))
    rounds = 3 if arguments.quick else 15
    costs = []
    for dtype in DTYPES[:1] if arguments.quick else DTYPES:
        blocks, shape = blocks_of_text(*load_model(dtype))
        for codec in CODECS:
            costs += [measure(codec, blocks, shape, n, rounds) for n in THREAD_COUNTS]
    say(cost_table(costs))
    used = {cost.codec: cost for cost in costs if (cost.dtype, cost.threads) == ("bfloat16", 2)}
    moves = [
        move(used, gbit, quality)
        for gbit in LINKS_GBIT
        for quality in (Quality.EXACT, Quality.CLOSE, Quality.ROUGH)
    ]
    say(f"\n{used['none'].size_bytes / 1e6:.1f} MB of bfloat16, 2 threads, milliseconds\n")
    say(move_table(moves))
    goals = [
        Goal(f"{each.gbit} Gbit/s, {each.quality}: against none", each.against_none, SLOWER_GOAL)
        for each in moves
    ]
    return publish(
        "kv_codecs", {"machine": machine, "costs": costs, "moves": moves}, goals, arguments.json
    )


def cost_table(costs: list[Cost]) -> str:
    headers = ("dtype", "codec", "threads", "encode GB/s", "decode GB/s", "times smaller")
    return table(
        headers,
        (
            (
                cost.dtype,
                cost.codec,
                cost.threads,
                cost.encode_gb_per_second,
                cost.decode_gb_per_second,
                cost.ratio,
            )
            for cost in costs
        ),
    )


def move_table(moves: list[Moved]) -> str:
    headers = ("Gbit/s", "quality", *CODECS, "controller", "against none", "chosen")
    return table(
        headers,
        (
            (
                each.gbit,
                each.quality,
                *(each.by_codec[codec] for codec in CODECS),
                each.controller,
                f"{each.against_none:.3f}",
                ", ".join(f"{codec} {count}" for codec, count in each.chosen.items()),
            )
            for each in moves
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
