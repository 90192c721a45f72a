"""Our connector's metrics, as engines show them, for all who name them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MetricName:
    """``label`` comes after those that vLLM gives all its metrics: ``engine``, ``model_name``."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    label: str | None = None


SECONDS = MetricName(
    "twofold_kv_transfer_seconds",
    "histogram",
    "How long the blocks of a request moved, of an engine's first rank.",
)
BYTES = MetricName(
    "twofold_kv_transfer_bytes", "histogram", "Bytes of the blocks that a rank read for a request."
)
BANDWIDTH = MetricName(
    "twofold_kv_transfer_bytes_per_second",
    "histogram",
    "Bytes of blocks, coded or not, over the time that a rank's read of them took.",
)
FAILURES = MetricName(
    "twofold_kv_transfer_failures_total",
    "counter",
    "Requests whose blocks could not be fetched, by the reason that a rank gave first.",
    "reason",
)
LEASES = MetricName(
    "twofold_kv_leases_ended_total",
    "counter",
    "Leases on blocks of this worker that have ended, by cause; once for all its ranks.",
    "cause",
)
LEASES_NOW = MetricName(
    "twofold_kv_leases",
    "gauge",
    "Leases on blocks of this worker: promised or held, and how many of these are claimed by a"
    " reader or pinned; of a rank, and all have the same.",
    "state",
)
READS_NOW = MetricName(
    "twofold_kv_reads",
    "gauge",
    "Requests whose blocks a rank reads (reading), or which wait for room for them (waiting); of"
    " the rank with most.",
    "state",
)
TRANSFERS_BY_CODEC = MetricName(
    "twofold_kv_transfers_by_codec_total",
    "counter",
    "Transfers over the tcp transport that have ended well, by what any of their blocks were coded"
    " with.",
    "codec",
)
BLOCK_BYTES = MetricName(
    "twofold_kv_transfer_block_bytes_total",
    "counter",
    "Bytes of the blocks that came by them, as they lie, by codec.",
    "codec",
)
PAYLOAD_BYTES = MetricName(
    "twofold_kv_transfer_payload_bytes_total",
    "counter",
    "Bytes that the tcp transport moved for them, by codec: of none, the blocks themselves.",
    "codec",
)
PREFIX_PULLS = MetricName(
    "twofold_kv_prefix_pulls_total",
    "counter",
    "Requests that named a worker with the beginning of their prompt, by what came of pulling it.",
    "outcome",
)
PREFIX_BLOCKS = MetricName(
    "twofold_kv_prefix_blocks_total",
    "counter",
    "Blocks of prompts that were pulled from other workers, ahead of being computed or fetched.",
)
PREFIX_BYTES = MetricName(
    "twofold_kv_prefix_bytes_total",
    "counter",
    "Bytes of the blocks that ranks have read of prefixes, pulled or followed, of use or not.",
)
PREFIX_SECONDS = MetricName(
    "twofold_kv_prefix_seconds_total",
    "counter",
    "How long these reads took, added up over reads and ranks.",
)
ALL = (
    SECONDS,
    BYTES,
    BANDWIDTH,
    FAILURES,
    LEASES,
    LEASES_NOW,
    READS_NOW,
    TRANSFERS_BY_CODEC,
    BLOCK_BYTES,
    PAYLOAD_BYTES,
    PREFIX_PULLS,
    PREFIX_BLOCKS,
    PREFIX_BYTES,
    PREFIX_SECONDS,
)
