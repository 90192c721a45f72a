"""Which way UCX takes: the lanes that bytes go by, and what kind of way they are."""

import enum
import re
from dataclasses import dataclass


class Kind(enum.StrEnum):
    SHARED_MEMORY = "shared memory"
    GPU = "NVLink or PCIe, from GPU to GPU"
    RDMA = "RDMA"
    TCP = "TCP"
    UNKNOWN = "unknown"


_KINDS = {
    "tcp": Kind.TCP,
    "self": Kind.SHARED_MEMORY,
    "sysv": Kind.SHARED_MEMORY,
    "posix": Kind.SHARED_MEMORY,
    "xpmem": Kind.SHARED_MEMORY,
    "cma": Kind.SHARED_MEMORY,
    "knem": Kind.SHARED_MEMORY,
    "cuda_ipc": Kind.GPU,
    "rocm_ipc": Kind.GPU,
    "ze_ipc": Kind.GPU,
    "srd": Kind.RDMA,
}
"""UCX's transports (``uct/*/*_iface.c``), but for InfiniBand's, which have suffixes."""

_INFINIBAND = ("rc_", "dc_", "ud_", "gga_")
_WITHIN_A_PROCESS = frozenset({"cuda_copy", "gdr_copy", "rocm_copy", "rocm_gdr", "ze_copy"})
"""They copy between a GPU and its host before or after what goes to the other process."""

_SLOWEST_FIRST = (Kind.TCP, Kind.UNKNOWN, Kind.RDMA, Kind.GPU, Kind.SHARED_MEMORY)

_LANE = re.compile(r"([a-z][a-z0-9_]*)/([^\s/,|]+)(?:/path\d+)?")


@dataclass(frozen=True, slots=True)
class Lane:
    """A transport of UCX on a device."""

    transport: str
    device: str

    def __str__(self) -> str:
        return f"{self.transport}/{self.device}"

    @property
    def kind(self) -> Kind:
        if self.transport.startswith(_INFINIBAND):
            return Kind.RDMA
        return _KINDS.get(self.transport, Kind.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Way:
    """How bytes of one size go: what UCX does, and over which lanes at once."""

    protocol: str
    """In UCX's words, such as ``zero-copy``, or ``software emulation`` of a read by messages."""
    lanes: tuple[Lane, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.lanes)) or "no lane"

    @property
    def kind(self) -> Kind:
        """Return that of the slowest lane, which a transfer waits for."""
        kinds = {lane.kind for lane in self.lanes if lane.transport not in _WITHIN_A_PROCESS}
        return next((kind for kind in _SLOWEST_FIRST if kind in kinds), Kind.UNKNOWN)


def lanes_of(config: str) -> tuple[Lane, ...]:
    """Return the lanes that UCX's *config* names, such as ``tcp/eth0``, ``50% on
    rc_mlx5/mlx5_0:1/path0 and 50% on rc_mlx5/mlx5_1:1/path0``, or ``rc_mlx5/mlx5_0:1 50% on path0
    and 50% on path1`` (UCX's ``proto_multi.c``), each once."""
    return tuple(dict.fromkeys(Lane(*found) for found in _LANE.findall(config)))
