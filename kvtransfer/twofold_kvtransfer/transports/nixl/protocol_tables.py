"""The tables of protocols that UCX prints with ``UCX_PROTO_INFO=y`` (its ``proto_debug.c``).

One for each kind of operation on each kind of endpoint, as soon as the first such operation is
started: a head, then a row for each range of sizes. In the UCX of NIXL 1.5.1 endpoint and operation
have a line each and the columns have names; in older ones they share a line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from twofold_kvtransfer.transports.nixl.ways import Way, lanes_of

READ = "remote memory read by ucp_get"

_ENDPOINT = re.compile(r"(self|intra-node|inter-node) cfg#\d+")
_RANGE = re.compile(r"(\d+)([KMGTPE]?)(?:\.\.(?:(\d+)([KMGTPE]?)|inf))?$")
_ESTIMATED = "(?) "
_UNITS = {unit: 1024**power for power, unit in enumerate(["", *"KMGTPE"])}


@dataclass(frozen=True, slots=True)
class Row:
    first_bytes: int
    last_bytes: int | None
    """None: no end."""
    way: Way


@dataclass(frozen=True, slots=True)
class ProtocolTable:
    endpoint: str
    """``self``, ``intra-node`` or ``inter-node``."""
    operation: str
    rows: tuple[Row, ...]

    def way(self, size_bytes: int) -> Way | None:
        for row in self.rows:
            if row.first_bytes <= size_bytes and (
                row.last_bytes is None or size_bytes <= row.last_bytes
            ):
                return row.way
        return None


def read_tables(log: str) -> list[ProtocolTable]:
    """Return the tables in UCX's *log*, in order; lines of something else are passed over."""
    tables: list[ProtocolTable] = []
    endpoint = operation = ""
    rows: list[Row] = []
    for cells in _cells_of(log):
        if found := _ENDPOINT.search(cells[0]):
            if operation:
                tables.append(ProtocolTable(endpoint, operation, tuple(rows)))
            endpoint, operation, rows = found[1], "".join(cells[1:2]), []
        elif endpoint and not operation:
            operation = cells[0]
        elif row := _row(cells):
            rows.append(row)
    if operation:
        tables.append(ProtocolTable(endpoint, operation, tuple(rows)))
    return tables


def way_of_reads(log: str, size_bytes: int) -> Way | None:
    """Return how another process's memory is read: what UCX decided last, as the lanes that an
    endpoint begins with may be joined by better ones."""
    ways = [
        table.way(size_bytes)
        for table in read_tables(log)
        if table.operation.startswith(READ) and table.endpoint != "self"
    ]
    return next((way for way in reversed(ways) if way is not None), None)


def _cells_of(log: str) -> Iterator[list[str]]:
    for line in log.splitlines():
        _, mark, table = line.partition("|")
        if mark and table.rstrip().endswith("|"):
            yield [cell.strip() for cell in table.rstrip()[:-1].split("|")]


def _row(cells: list[str]) -> Row | None:
    if len(cells) != 3 or not (found := _RANGE.match(cells[0])):
        return None
    first, first_unit, last, last_unit = found.groups()
    first_bytes = int(first) * _UNITS[first_unit]
    last_bytes = int(last) * _UNITS[last_unit] if last else None
    if ".." not in cells[0]:
        last_bytes = first_bytes
    return Row(
        first_bytes,
        last_bytes,
        Way(cells[1].removeprefix(_ESTIMATED), lanes_of(cells[2])),
    )
