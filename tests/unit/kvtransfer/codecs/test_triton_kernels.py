"""The kernels in Triton's interpreter, which has to be chosen before Triton is imported."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

PROGRAM = """
import torch

from tests.unit.kvtransfer.codecs.made_blocks import random_blocks, same_bits
from twofold_kvtransfer.codecs import CannotQuantiseError, KvShape, Packing
from twofold_kvtransfer.codecs import triton_coding
from twofold_kvtransfer.codecs.coding import Coder
from twofold_kvtransfer.codecs.regions import DTYPES

with Coder() as coder:
    for dtype in DTYPES:
        shape = KvShape(regions=1, heads=2, block_tokens=24, head_dim=80,
                        dtype=dtype, packing=Packing.TOKENS)
        blocks = random_blocks(shape, 3)
        blocks[0, 0, 0] = 0
        blocks[0, 0, 1] = 1.5
        blocks[0, 1] *= 1e-4 if dtype == "float16" else 1e-36
        strided = blocks.transpose(2, 3).contiguous().transpose(2, 3)
        for codec in ("int8", "fp8", "int4"):
            expected = coder.encode(codec, blocks, shape)
            assert torch.equal(triton_coding.encode(codec, strided, shape), expected), codec
            ours, theirs = torch.empty_like(strided), torch.empty_like(blocks)
            triton_coding.decode(expected, shape, ours)
            coder.decode(expected, shape, theirs)
            assert same_bits(ours, theirs), codec
            for bad in (float("nan"), float("-inf"), torch.finfo(blocks.dtype).max):
                wrong = blocks[:, :1].clone()
                wrong[0, 0, 1, 3, 5] = bad
                try:
                    triton_coding.encode(codec, wrong, shape)
                except CannotQuantiseError:
                    pass
                else:
                    raise AssertionError((codec, bad))
print("same bytes")
"""


def test_the_kernels_write_and_read_the_bytes_of_the_cpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.stdout == "same bytes\n", done.stderr
