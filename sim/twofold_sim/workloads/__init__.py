"""Requests to try a cluster on: read from a trace, or made up and then called synthetic."""

from twofold_sim.workloads.ceiling import hit_rate_ceiling
from twofold_sim.workloads.errors import WorkloadError
from twofold_sim.workloads.generated import generate
from twofold_sim.workloads.keys import BYTES_PER_TOKEN, key_of
from twofold_sim.workloads.opening import SYNTHETIC, name_of, open_workload
from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt
from twofold_sim.workloads.reading import read_trace
from twofold_sim.workloads.shape import SHAPE_FIELDS, Shape, parse_shape
from twofold_sim.workloads.shaping import (
    LongPrompts,
    OnLong,
    at_qps,
    count_long,
    first,
    no_longer_than,
    qps_of,
)
from twofold_sim.workloads.synthetic_agent import synthetic_agent

__all__ = [
    "BLOCK_TOKENS",
    "BYTES_PER_TOKEN",
    "SHAPE_FIELDS",
    "SYNTHETIC",
    "LongPrompts",
    "OnLong",
    "Prompt",
    "Shape",
    "WorkloadError",
    "at_qps",
    "count_long",
    "first",
    "generate",
    "hit_rate_ceiling",
    "key_of",
    "name_of",
    "no_longer_than",
    "open_workload",
    "parse_shape",
    "qps_of",
    "read_trace",
    "synthetic_agent",
]
