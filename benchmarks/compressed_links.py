"""``python -m benchmarks.compressed_links``: reads over slow links, coded as the transport chooses.

A process reads all blocks of a prompt from another over the tcp transport, which its rate limit
makes a link of 1 to 100 Gbit/s: once as they lie, and once for each bound on quality with what the
controller chooses. All take turns in each round, in an order that turns too; the rounds in which a
controller still learns count like the others. Both processes code on the same cores here, which two
machines would not. SmolLM2's blocks are those of the built-in model for a text; the 8B model's are
normally distributed numbers, its channels of different sizes. Each bandwidth is another link to
transports of its own; with ``--changing`` there is one link, which becomes faster and slower.
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import msgspec
import torch

from benchmarks.figures import ratios
from benchmarks.kv_codecs import blocks_of_text
from benchmarks.kv_of_model import load_model
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.codecs import KvShape, Packing, Quality
from twofold_kvtransfer.codecs.cell_coding import CellCoder
from twofold_kvtransfer.codecs.measuring import measured_costs
from twofold_kvtransfer.transports import Transfer, TransferState
from twofold_kvtransfer.transports.tcp import Compression, TcpSettings, TcpTransport
from twofold_kvtransfer.transports.tcp.pair import TcpPair

LINKS_GBIT = (1, 5, 25, 100)
CHANGING_GBIT = (1, 5, 25, 100, 25, 5, 1)
BOUNDS: dict[str, Quality | None] = {
    "none": None,
    "none again": None,
    "lossless": Quality.EXACT,
    "int8": Quality.CLOSE,
    "int4": Quality.ROUGH,
}
SLOWER_GOAL = 1.03
GIGA = 1e9
POLL_SECONDS = 2e-4
JOIN_SECONDS = 30.0


class Prompt(msgspec.Struct, frozen=True):
    model: str
    tokens: int
    shape: KvShape

    @property
    def block_count(self) -> int:
        return self.tokens // self.shape.block_tokens


def _shape(layers: int, heads: int, head_dim: int) -> KvShape:
    return KvShape(
        regions=layers,
        heads=heads,
        block_tokens=128,
        head_dim=head_dim,
        dtype="bfloat16",
        packing=Packing.CPU,
    )


SMOLLM = Prompt("SmolLM2-135M", 2048, _shape(30, 3, 64))
PROMPTS = (SMOLLM, Prompt("8B", 1024, _shape(32, 8, 128)))


class Sample(msgspec.Struct, frozen=True):
    model: str
    step: int
    """The number of the link."""
    gbit: int
    bound: str
    round: int
    codec: str
    seconds: float
    size_bytes: int
    payload_bytes: int


class Result(msgspec.Struct, frozen=True):
    model: str
    gbit: int
    bound: str
    milliseconds: float
    against_none: float
    """Median over the rounds."""
    total_against_none: float
    """Of all rounds together, with those that learned."""
    codecs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Far:
    """What the process that is read from tells of itself."""

    description: bytes
    blocks: BlockMap


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, SmolLM2 only")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--changing", action="store_true", help="one link, up and down")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    machine = describe_machine(("torch", "numpy"))
    rounds = arguments.rounds or (5 if arguments.quick else 25)
    samples: list[Sample] = []
    for prompt in PROMPTS[:1] if arguments.quick else PROMPTS:
        measured = measure_one_link if arguments.changing else measure_links
        samples += measured(prompt, content_of(prompt), rounds)
    results = results_of(samples)
    say(result_table(results))
    goals = [
        Goal(f"{each.model}, {each.gbit} Gbit/s, {each.bound}", each.against_none, SLOWER_GOAL)
        for each in results
        if BOUNDS[each.bound] is not None
    ]
    found = {"machine": machine, "results": results, "samples": samples}
    return publish("compressed_links", found, goals, arguments.json)


def content_of(prompt: Prompt) -> torch.Tensor:
    """Return blocks, ``(layers, blocks, heads, block_tokens, 2 * head_dim)``."""
    shape = prompt.shape
    if prompt is SMOLLM:
        blocks, found = blocks_of_text(*load_model("bfloat16"))
        assert (found, blocks.shape[1]) == (shape, prompt.block_count)
        return blocks.contiguous()
    random = torch.Generator().manual_seed(7)
    whole = (shape.regions, prompt.block_count, shape.heads, shape.block_tokens)
    sides = []
    for _ in range(2):
        sizes = torch.randn(shape.head_dim, generator=random).exp_()
        numbers = torch.randn(*whole, shape.head_dim, generator=random) * sizes
        sides.append(numbers.bfloat16())
    key, value = sides
    # As Packing.CPU has them: channels of K, then tokens of V.
    pages = torch.cat([key.transpose(-1, -2).flatten(-2), value.flatten(-2)], dim=-1)
    return pages.unflatten(-1, (shape.block_tokens, 2 * shape.head_dim))


def measure_links(prompt: Prompt, content: torch.Tensor, rounds: int) -> Iterator[Sample]:
    local = torch.zeros_like(content).fill_(1)
    for step, gbit in enumerate(LINKS_GBIT):
        with transports(prompt, local) as here:
            yield from measure(prompt, content, here, rounds, step, gbit)


def measure_one_link(prompt: Prompt, content: torch.Tensor, rounds: int) -> Iterator[Sample]:
    """Measure with transports that stay, and know a link by its host: it changes for them."""
    with transports(prompt, torch.zeros_like(content).fill_(1)) as here:
        for step, gbit in enumerate(CHANGING_GBIT):
            yield from measure(prompt, content, here, rounds, step, gbit)


def measure(
    prompt: Prompt,
    content: torch.Tensor,
    here: Mapping[str, TcpTransport],
    rounds: int,
    step: int,
    gbit: int,
) -> Iterator[Sample]:
    move = Move(tuple(range(prompt.block_count)), tuple(range(prompt.block_count)))
    with far_process(prompt, content, gbit) as far, ExitStack() as ends:
        pairs = {bound: each.open(far.description, far.blocks) for bound, each in here.items()}
        for pair in pairs.values():
            ends.callback(pair.close, "the link is measured")
        names = list(pairs)
        for number in range(rounds):
            turn = number % len(names)
            for bound in names[turn:] + names[:turn]:
                transfer = pairs[bound].read(move)
                finish(transfer, pairs[bound])
                sizes = transfer.size_bytes, transfer.payload_bytes
                took = transfer.codec, transfer.seconds, *sizes
                yield Sample(prompt.model, step, gbit, bound, number, *took)


@contextmanager
def transports(prompt: Prompt, local: torch.Tensor) -> Iterator[Mapping[str, TcpTransport]]:
    """Yield one for each bound, all with the blocks *local*."""
    blocks = map_of(local)
    with ExitStack() as ends:
        here = {}
        for bound, quality in BOUNDS.items():
            compression = None
            if quality is not None:
                coder = CellCoder(blocks, prompt.shape)
                costs = measured_costs(prompt.shape, coder.threads)
                compression = Compression(coder=coder, quality=quality, costs=costs)
            here[bound] = ends.enter_context(closing(TcpTransport(blocks, compression=compression)))
        yield here


def finish(transfer: Transfer, pair: TcpPair) -> None:
    while transfer.poll() is TransferState.MOVING:
        time.sleep(POLL_SECONDS)
    if transfer.poll() is TransferState.FAILED:
        pair.close("a benchmark failed")
        raise SystemExit(f"a read failed: {transfer.reason}")


def map_of(blocks: torch.Tensor) -> BlockMap:
    block_bytes = blocks[0, 0].nbytes
    return BlockMap(
        addresses=tuple(region.data_ptr() for region in blocks),
        block_count=blocks.shape[1],
        block_bytes=block_bytes,
        stride_bytes=block_bytes,
    )


@contextmanager
def far_process(prompt: Prompt, content: torch.Tensor, gbit: int) -> Iterator[Far]:
    """Run a process that has *content* and sends *gbit* at most."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_lend, args=(prompt, content, gbit, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(JOIN_SECONDS)
        if process.is_alive():
            process.kill()


def _lend(prompt: Prompt, content: torch.Tensor, gbit: int, ours: Connection) -> None:
    blocks = map_of(content)
    compression = Compression(coder=CellCoder(blocks, prompt.shape), quality=Quality.ROUGH)
    settings = TcpSettings(bytes_per_second=gbit * GIGA / 8)
    with closing(TcpTransport(blocks, settings, compression=compression)) as there:
        ours.send(Far(there.describe(), blocks))
        try:
            ours.recv()
        except EOFError:
            return


def results_of(samples: Sequence[Sample]) -> list[Result]:
    groups: dict[tuple[str, int, str], list[Sample]] = {}
    for each in samples:
        groups.setdefault((each.model, each.step, each.bound), []).append(each)
    results = []
    for (model, step, bound), mine in groups.items():
        ours = [each.seconds for each in mine]
        theirs = [each.seconds for each in groups[model, step, "none"]]
        results.append(
            Result(
                model,
                mine[0].gbit,
                bound,
                milliseconds=median(ours) * 1000,
                against_none=median(ratios(ours, theirs)),
                total_against_none=sum(ours) / sum(theirs),
                codecs=dict(Counter(each.codec for each in mine)),
            )
        )
    return results


def result_table(results: Sequence[Result]) -> str:
    headers = ("model", "Gbit/s", "bound", "ms", "against none", "all rounds", "chosen")
    rows = [
        (
            each.model,
            each.gbit,
            each.bound,
            each.milliseconds,
            f"{each.against_none:.3f}",
            f"{each.total_against_none:.3f}",
            ", ".join(f"{codec} {count}" for codec, count in each.codecs.items()),
        )
        for each in results
    ]
    return table(headers, rows)


if __name__ == "__main__":
    sys.exit(main())
