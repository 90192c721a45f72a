"""What can be set of the TCP transport."""

import ipaddress
from dataclasses import dataclass

from twofold_cluster.errors import TwofoldError


class TcpSettingsError(TwofoldError):
    """A setting that cannot work; the message names it."""


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
    """Of all peers together, a thread each; one more is turned away."""
    bytes_per_second: float | None = None
    """Of all that this side sends: makes a slow link of a fast one."""

    def __post_init__(self) -> None:
        _require(bool(self.host) and not _is_any(self.host), "host", self.host)
        _require(0 <= self.port < 65536, "port", self.port)
        for name in ("streams_per_pair", "max_transfers_per_pair", "max_accepted_streams"):
            _require(getattr(self, name) >= 1, name, getattr(self, name))
        for name in ("connect_seconds", "idle_seconds"):
            _require(getattr(self, name) > 0, name, getattr(self, name))
        rate = self.bytes_per_second
        _require(rate is None or rate > 0, "bytes_per_second", rate)


def _is_any(host: str) -> bool:
    """Whether *host* means all addresses: good to listen on, useless to tell to a peer."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _require(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise TcpSettingsError(f"{name} cannot be {value!r}")
