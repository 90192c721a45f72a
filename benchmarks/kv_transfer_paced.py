"""Bare NIXL that does not wait in a loop."""

import importlib

from benchmarks.kv_contenders import BareSide
from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.vllm_plugin import pace_nixl

PACED = "bare NIXL, paced"


class PacedSide(BareSide):
    """As :class:`BareSide`, with the pause that our agents have. NIXL's own default takes a core
    in each of both processes (decision 005), which is felt where there are two."""

    def __init__(self, blocks: BlockMap) -> None:
        pace_nixl(importlib.import_module("nixl._bindings"))
        super().__init__(blocks)
