"""What can be set of a transport over a two-sided library."""

from dataclasses import dataclass

from twofold_kvtransfer.transports.sockets.settings import check_above_zero, check_address
from twofold_kvtransfer.transports.two_sided.port import Limits


@dataclass(frozen=True, slots=True)
class TwoSidedSettings:
    host: str = "127.0.0.1"
    """Listened on, and told to peers, who have to reach it: in Kubernetes the pod's own address."""
    port: int = 0
    """0 takes a free one."""
    connect_seconds: float = 10.0
    """For a connection and its greeting, and as long again until its communicator is made, which
    takes NCCL a second or two. Its first bytes have ``idle_seconds``, as all others."""
    idle_seconds: float = 30.0
    """For one buffer of some MiB to move, until its transfer fails. As long may a host have
    vanished before that is noticed."""
    max_transfers_per_pair: int = 256
    """Started and not ended; one more fails at once, as ``busy``."""
    max_accepted_lines: int = 128
    """Of all peers together: each has a thread, a communicator and its buffers here. One more is
    turned away."""
    serves_writes: bool = False
    """Let peers put blocks here. Nobody needs it who only reads, as all our workers do."""

    def __post_init__(self) -> None:
        check_address(self.host, self.port)
        check_above_zero(
            self, "connect_seconds", "idle_seconds", "max_transfers_per_pair", "max_accepted_lines"
        )

    @property
    def limits(self) -> Limits:
        return Limits(self.connect_seconds, self.idle_seconds)
