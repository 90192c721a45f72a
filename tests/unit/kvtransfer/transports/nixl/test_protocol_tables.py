"""What UCX prints of the protocols that it takes, as recorded or after its source."""

import pytest

from twofold_kvtransfer.transports.nixl.protocol_tables import read_tables, way_of_reads

MIB = 1 << 20

# NIXL 1.5.1's own UCX, between two processes of one machine, without most tables of messages. The
# first table was one of writes.
SHARED_MEMORY = """\
[17.22] [vm:5 :0]   +--------+-------------+-----------------------------------+
[17.22] [vm:5 :0]   | reader self cfg#0                                        |
[17.22] [vm:5 :0]   | remote memory read by ucp_get* into host memory from host |
[17.22] [vm:5 :0]   +--------+-------------+-----------------------------------+
[17.22] [vm:5 :0]   | Range  | Description |              Config               |
[17.22] [vm:5 :0]   +--------+-------------+-----------------------------------+
[17.22] [vm:5 :0]   | 0..inf | zero-copy   | self/memory                       |
[17.22] [vm:5 :0]   +--------+-------------+-----------------------------------+
2026-11-22 13:55:02 NIXL INFO    _api.py:405 Backend UCX was instantiated
[17.23] [vm:5 :0]   +------------+--------------------+---------------+
[17.23] [vm:5 :0]   | reader intra-node cfg#1                         |
[17.23] [vm:5 :0]   | active message by ucp_am_send* from host memory |
[17.23] [vm:5 :0]   +------------+--------------------+---------------+
[17.23] [vm:5 :0]   |   Range    |    Description     |    Config     |
[17.23] [vm:5 :0]   +------------+--------------------+---------------+
[17.23] [vm:5 :0]   |          0 | short              | tcp/lo        |
[17.23] [vm:5 :0]   |   1..16515 | zero-copy          | tcp/lo        |
[17.23] [vm:5 :0]   | 16516..inf | multi-frag copy-in | tcp/lo        |
[17.23] [vm:5 :0]   +------------+--------------------+---------------+
[17.24] [vm:5 :0]   +--------+-------------+-------------------------------------------+
[17.24] [vm:5 :0]   | reader intra-node cfg#1                                          |
[17.24] [vm:5 :0]   | remote memory read by ucp_get*(multi) into host memory from host |
[17.24] [vm:5 :0]   +--------+-------------+-------------------------------------------+
[17.24] [vm:5 :0]   | Range  | Description |                  Config                   |
[17.24] [vm:5 :0]   +--------+-------------+-------------------------------------------+
[17.24] [vm:5 :0]   | 0..inf | zero-copy   | cma/memory                                |
[17.24] [vm:5 :0]   +--------+-------------+-------------------------------------------+
"""

# The same with UCX_TLS=^shm and UCX_NET_DEVICES=^lo, without its messages.
TCP = """\
[17.9] [vm:5 :0]   +--------+--------------------+------------------------------------+
[17.9] [vm:5 :0]   | reader intra-node cfg#1                                          |
[17.9] [vm:5 :0]   | remote memory read by ucp_get*(multi) into host memory from host |
[17.9] [vm:5 :0]   +--------+--------------------+------------------------------------+
[17.9] [vm:5 :0]   | Range  |    Description     |               Config               |
[17.9] [vm:5 :0]   +--------+--------------------+------------------------------------+
[17.9] [vm:5 :0]   | 0..inf | software emulation | tcp/eth0                           |
[17.9] [vm:5 :0]   +--------+--------------------+------------------------------------+
"""

# Endpoint and operation in one line, as older UCX has them. Written after proto_debug.c and
# proto_multi.c, not recorded: there was no such device.
RDMA = """\
[1.0] +----------------+-----------+------------------------------------------------+
[1.0] | ucp_context_0 inter-node cfg#2 | remote memory read by ucp_get*(multi) into cuda |
[1.0] +----------------+-----------+------------------------------------------------+
[1.0] |              0 | copy-out | rc_mlx5/mlx5_0:1/path0 |
[1.0] |          1..64 | software emulation | rc_mlx5/mlx5_0:1/path0 |
[1.0] |         65..8K | (?) zero-copy | rc_mlx5/mlx5_0:1/path0 |
[1.0] | 8193..inf | zero-copy | 50% on rc_mlx5/mlx5_0:1/path0 and 50% on rc_mlx5/mlx5_1:1/path0 |
[1.0] +----------------+-----------+------------------------------------------------+
"""


def test_each_table_is_read_with_its_endpoint_and_operation() -> None:
    tables = read_tables(SHARED_MEMORY)

    assert [(table.endpoint, table.operation, len(table.rows)) for table in tables] == [
        ("self", "remote memory read by ucp_get* into host memory from host", 1),
        ("intra-node", "active message by ucp_am_send* from host memory", 3),
        ("intra-node", "remote memory read by ucp_get*(multi) into host memory from host", 1),
    ]


@pytest.mark.parametrize(
    ("log", "lanes", "protocol"),
    [
        (SHARED_MEMORY, "cma/memory", "zero-copy"),
        (TCP, "tcp/eth0", "software emulation"),
        (RDMA, "rc_mlx5/mlx5_0:1 and rc_mlx5/mlx5_1:1", "zero-copy"),
    ],
)
def test_the_way_is_that_of_reads_from_another_process(log: str, lanes: str, protocol: str) -> None:
    way = way_of_reads(log, MIB)

    assert way is not None
    assert (str(way), way.protocol) == (lanes, protocol)


@pytest.mark.parametrize(
    ("size_bytes", "protocol", "lanes"),
    [
        (0, "copy-out", "rc_mlx5/mlx5_0:1"),
        (64, "software emulation", "rc_mlx5/mlx5_0:1"),
        (65, "zero-copy", "rc_mlx5/mlx5_0:1"),
        (8192, "zero-copy", "rc_mlx5/mlx5_0:1"),
        (8193, "zero-copy", "rc_mlx5/mlx5_0:1 and rc_mlx5/mlx5_1:1"),
    ],
)
def test_a_way_is_that_of_its_size(size_bytes: int, protocol: str, lanes: str) -> None:
    way = way_of_reads(RDMA, size_bytes)

    assert way is not None
    assert (way.protocol, str(way)) == (protocol, lanes)


def test_what_ucx_decided_last_counts() -> None:
    way = way_of_reads(TCP + RDMA, MIB)

    assert way is not None
    assert str(way) == "rc_mlx5/mlx5_0:1 and rc_mlx5/mlx5_1:1"


@pytest.mark.parametrize(
    "log", ["", "a | b", "| only | a | line |", SHARED_MEMORY.partition("ucp_get*(multi)")[0]]
)
def test_no_way_is_made_up(log: str) -> None:
    assert way_of_reads(log, MIB) is None
