"""What ``twofold bench`` prints and writes."""

import importlib.util
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from twofold_cli.errors import BadArgumentError

if TYPE_CHECKING:
    from twofold_sim.measuring import Record


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where what comes out goes."""

    json: Path | None
    html: Path | None
    png: Path | None

    def check(self) -> None:
        """Make sure that they can be written, before anything takes its time.

        Raises:
            BadArgumentError: one cannot.
        """
        for option, path in (("--json", self.json), ("--html", self.html)):
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                raise BadArgumentError(f"{option}: {path} is no file that could be written")
        if self.png is not None and self.png.exists() and not self.png.is_dir():
            raise BadArgumentError(f"--png: {self.png} is no folder")
        has_pictures = self.html is not None or self.png is not None
        if has_pictures and importlib.util.find_spec("matplotlib") is None:
            raise BadArgumentError("--html and --png need matplotlib; install it first")

    def write(self, records: "Sequence[Record]") -> None:
        """Print the table, and write what was asked for."""
        from twofold_sim.measuring import goodput_table, notes_on, table, write_records

        command = shlex.join(["twofold", *sys.argv[1:]])
        print(table(records))
        for note in notes_on(records):
            print(f"\n{note}.")
        if len({record.qps for record in records}) > 1:
            print(f"\n{goodput_table(records)}")
        if self.json is not None:
            write_records(self.json, command, [_without_samples(record) for record in records])
        if self.html is not None:
            from twofold_sim.picturing import write_report

            write_report(records, self.html, command)
        if self.png is not None:
            from twofold_sim.picturing import write_pictures

            write_pictures(records, self.png)


def _without_samples(record: "Record") -> "Record":
    """Leave out what only pictures need, and is by far the most."""
    return msgspec.structs.replace(record, samples=None)
