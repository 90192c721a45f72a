"""What can be set of the TCP transport."""

from dataclasses import dataclass

from twofold_kvtransfer.transports.sockets.settings import check_above_zero, check_address


@dataclass(frozen=True, slots=True)
class TcpSettings:
    host: str = "127.0.0.1"
    """Listened on, and told to peers, who have to reach it: in Kubernetes the pod's own address."""
    port: int = 0
    """0 takes a free one."""
    streams_per_pair: int = 2
    """Connections that one pair's transfers are spread over, each with a thread on both sides. Two
    hide each other's waits; more are for fast networks and cores to spare."""
    connect_seconds: float = 5.0
    """For one connection and its greeting; also how long a stranger may keep a thread here."""
    idle_seconds: float = 30.0
    """In the middle of a transfer, without a byte sent or received, until it fails. As long may a
    host have vanished before that is noticed."""
    checksum: bool = True
    """Over the transfers that this side starts."""
    max_transfers_per_pair: int = 256
    """Started and not ended; one more fails at once, as ``busy``."""
    max_accepted_streams: int = 512
    """Of all peers together, a thread each (16 KiB, and one of a pod's few thousand);
    one more is turned away. With two a pair, 256 ranks read from here."""
    serves_writes: bool = False
    """Let peers put blocks here. Nobody needs it who only reads, as all our workers do."""
    bytes_per_second: float | None = None
    """Of all that this side sends: makes a slow link of a fast one."""

    def __post_init__(self) -> None:
        check_address(self.host, self.port)
        check_above_zero(
            self,
            "streams_per_pair",
            "connect_seconds",
            "idle_seconds",
            "max_transfers_per_pair",
            "max_accepted_streams",
        )
        if self.bytes_per_second is not None:
            check_above_zero(self, "bytes_per_second")
