"""What can be set of the nixl transport."""

from dataclasses import dataclass

from twofold_cluster.errors import TwofoldError

UCX_VARIABLES = ("UCX_TLS", "UCX_NET_DEVICES")
"""Of the environment, which UCX reads when an agent is made. ``UCX_TLS``: such as ``rc,cuda``
(InfiniBand or RoCE, and what GPUs need), ``tcp`` or ``^tcp`` (all but it); with a GPU in the
machine it must allow ``cuda``. ``UCX_NET_DEVICES``: such as ``mlx5_0:1,mlx5_1:1`` or ``eth0``."""


class InvalidNixlSettingsError(TwofoldError):
    """A setting out of its range; the message names it."""


@dataclass(frozen=True, slots=True)
class NixlSettings:
    """Which way blocks go is UCX's to say: the fastest that reaches the peer, among those that
    ``UCX_VARIABLES`` in the environment leave it."""

    thread_count: int = 0
    """Threads that NIXL parts a transfer of 1,024 pieces and more among. Each has its own UCX
    worker, spins while something moves, and takes doorbell pages of the adapter, of which others
    may need some. None: consecutive blocks make few, large pieces, and one core copies them as
    fast as memory allows."""
    inline_bytes: int = 4 << 20
    """Up to this size the caller itself hands a transfer to NIXL. Through shared memory that is
    the copy, a millisecond or so; a larger one would hold up the engine's step and goes to a
    thread."""
    max_waiting: int = 1024
    """Transfers that wait for that thread; one more fails as busy."""
    open_seconds: float = 10.0
    """How long a peer has to answer when a pair is opened."""
    transfer_seconds: float = 120.0
    """A transfer that takes longer than this and its bytes at ``least_bytes_per_second`` is lost,
    and the whole transport with it; see ``NixlTransport``."""
    least_bytes_per_second: float = 62.5e6
    """What a link is taken to give one transfer at the least, 0.5 Gbit/s: a large one over a slow
    link is not lost. As much as who reads takes for it when it cancels what is late."""
    letting_go_seconds: float = 1.0
    """How long closing a pair waits for NIXL to be done with what is still moving."""

    def limit_seconds(self, size_bytes: int) -> float:
        """Return how long a transfer of *size_bytes* may take."""
        return self.transfer_seconds + size_bytes / self.least_bytes_per_second

    def __post_init__(self) -> None:
        for name in ("thread_count", "inline_bytes", "max_waiting"):
            if getattr(self, name) < 0:
                raise InvalidNixlSettingsError(f"{name} is {getattr(self, name)}, below 0")
        for name in (
            "open_seconds",
            "transfer_seconds",
            "least_bytes_per_second",
            "letting_go_seconds",
        ):
            if not getattr(self, name) > 0:
                raise InvalidNixlSettingsError(f"{name} is {getattr(self, name)}, not above 0")
