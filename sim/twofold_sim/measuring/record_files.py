"""Runs in a file, for who wants to compute with them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from twofold_sim.measuring.goodput import GOOD_SHARE, Goodput, goodputs, middle
from twofold_sim.measuring.measures import Slo
from twofold_sim.measuring.record import Record, Setting


class SweepGoodput(msgspec.Struct, frozen=True, kw_only=True):
    """The goodput of one policy over the QPS that it was run at, all else alike."""

    policy: str
    workload: str
    workers: int
    decode_workers: int
    slo: Slo
    setup: dict[str, Setting]
    good_share: float
    """Of the requests that are on time at that QPS."""
    by_seed: dict[int, Goodput]
    median: Goodput
    """Of two middle ones the lower."""


class RecordFile(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json FILE`` writes."""

    command: str
    records: list[Record]
    goodputs: list[SweepGoodput]
    """Of the policies that were run at more than one QPS."""


def write_records(path: Path, command: str, records: Sequence[Record]) -> None:
    """Write *records*, with the *command* that made them: all of their fields, but for samples that
    are not there."""
    file = msgspec.to_builtins(
        RecordFile(command=command, records=list(records), goodputs=list(_sweeps(records))),
        str_keys=True,
    )
    for record in file["records"]:
        if record["samples"] is None:
            del record["samples"]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")


def read_records(path: Path) -> RecordFile:
    """Read what ``write_records`` wrote.

    Raises:
        msgspec.DecodeError: the file holds something else.
        OSError: it cannot be read.
    """
    return msgspec.json.decode(path.read_bytes(), type=RecordFile)


def _sweeps(records: Sequence[Record]) -> Iterator[SweepGoodput]:
    if len({record.qps for record in records}) < 2:
        return
    for (conditions, policy), by_seed in goodputs(records).items():
        yield SweepGoodput(
            policy=policy,
            workload=conditions.workload,
            workers=conditions.workers,
            decode_workers=conditions.decode_workers,
            slo=conditions.slo,
            setup=dict(conditions.setup),
            good_share=GOOD_SHARE,
            by_seed=by_seed,
            median=middle(list(by_seed.values())),
        )
