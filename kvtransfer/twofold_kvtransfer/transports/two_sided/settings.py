"""What can be set of a transport over a two-sided library."""

import ipaddress
from dataclasses import dataclass

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.transports.two_sided.port import Limits


class TwoSidedSettingsError(TwofoldError):
    """A setting that cannot work; the message names it."""


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

    def __post_init__(self) -> None:
        _require(bool(self.host) and not _is_any(self.host), "host", self.host)
        _require(0 <= self.port < 65536, "port", self.port)
        for name in ("max_transfers_per_pair", "max_accepted_lines"):
            _require(getattr(self, name) >= 1, name, getattr(self, name))
        for name in ("connect_seconds", "idle_seconds"):
            _require(getattr(self, name) > 0, name, getattr(self, name))

    @property
    def limits(self) -> Limits:
        return Limits(self.connect_seconds, self.idle_seconds)


def _is_any(host: str) -> bool:
    """Whether *host* means all addresses: good to listen on, useless to tell to a peer."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _require(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise TwoSidedSettingsError(f"{name} cannot be {value!r}")
