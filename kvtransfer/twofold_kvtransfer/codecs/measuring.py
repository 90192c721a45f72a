"""What the codecs cost on this machine, so that nothing has to be learned at transfers' expense."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace

import torch

from twofold_kvtransfer.codecs.coding import decode_blocks, encode_blocks
from twofold_kvtransfer.codecs.costs import DEFAULT_COSTS, CodecCost
from twofold_kvtransfer.codecs.names import CodecName
from twofold_kvtransfer.codecs.regions import DTYPES
from twofold_kvtransfer.codecs.shape import KvShape

SAMPLE_BYTES = 1 << 20
ROUNDS = 4
"""The quickest counts: other work on the cores comes and goes, and is learned of."""


def measured_costs(
    shape: KvShape, threads: Executor, clock: Callable[[], float] = time.perf_counter
) -> Mapping[CodecName, CodecCost]:
    """Measure each codec in one of *threads*, on random blocks of *shape*; takes some 50 ms.

    The costs are those of transfers in chunks of about SAMPLE_BYTES: what each call takes, however
    little is coded, is in what a byte takes, and nothing is fixed beside it.

    More threads take less: then it is learned that coding is cheaper than this.
    """
    one = replace(shape, regions=1)
    count = max(1, SAMPLE_BYTES // one.size_bytes(1))
    return threads.submit(_measure, one, count, clock).result()


def _measure(
    shape: KvShape, block_count: int, clock: Callable[[], float]
) -> Mapping[CodecName, CodecCost]:
    whole = (1, block_count, shape.heads, shape.block_tokens, 2 * shape.head_dim)
    random = torch.Generator().manual_seed(0)
    blocks = torch.randn(whole, generator=random).to(DTYPES[shape.dtype])
    return {
        codec: assumed if codec == "none" else _cost(codec, blocks, shape, clock)
        for codec, assumed in DEFAULT_COSTS.items()
    }


def _cost(
    codec: CodecName, blocks: torch.Tensor, shape: KvShape, clock: Callable[[], float]
) -> CodecCost:
    size_bytes = blocks.nbytes
    out = torch.empty_like(blocks)
    encoding, decoding = [], []
    for _ in range(ROUNDS):
        began = clock()
        payload = encode_blocks(codec, blocks, shape)
        encoded = clock()
        decode_blocks(payload, shape, out)
        encoding.append(encoded - began)
        decoding.append(clock() - encoded)
    return CodecCost(
        min(encoding) / size_bytes,
        min(decoding) / size_bytes,
        0.0,
        len(payload) / size_bytes,
    )
