"""How an engine is told to move its blocks."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.parallelism import Parallelism, shows_prefixes

ConnectorName = Literal["nixl", "twofold"]
SECRET_ENV = "TWOFOLD_KV_SECRET"  # noqa: S105  a variable's name
"""The service's secret, which its engines prove to each other to know. In the environment, since
vLLM logs its settings."""

TransportName = Literal["nixl", "tcp", "nccl"]
CompressionName = Literal["off", "lossless", "int8", "fp8", "int4"]
"""The roughest codec that blocks may be moved with; ``off``: as they lie."""


class InvalidTransferSettingsError(TwofoldError):
    """A setting that the connector does not know, or a value that it cannot take."""


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """``kv_role`` is ``kv_both`` so that a worker can change its role without a reload: vLLM 0.32
    calls it deprecated for NixlConnector, and still serves both directions with it (see
    docs/decisions/003-role-change.md)."""

    engine_id: str
    """Names this engine to its peers; carries the incarnation, so that a restarted worker is
    another peer."""
    connector: ConnectorName = "nixl"
    """``nixl``: vLLM's NixlConnector; ``twofold``: ours."""
    lease_seconds: int = 30
    """How long a prefill worker keeps blocks that nobody fetches; vLLM's default."""
    on_load_failure: str = "fail"
    """``fail``: the request fails and the router decides; never a silent prefill."""
    buffer_device: str = "cpu"
    """NixlConnector's; ours moves blocks from where they are."""
    own: "ConnectorSettings | None" = None
    """Needed for ``twofold``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorSettings:
    """What our connector needs beside vLLM's own settings."""

    host: str
    """Where the side channel listens, and the address that peers are told."""
    port: int
    """Of the first rank's side channel; the others follow."""
    service_port: int | None = None
    """Where the first rank tells of its peers and leases; the others follow. None: they do not."""
    transport: TransportName = "nixl"
    compression: CompressionName = "off"
    """With the transport ``tcp``: what a slow link may be given, when that is quicker. All but
    ``lossless`` change what is generated."""
    link_bytes_per_second: float = 1.25e9
    """What the link to a peer is taken for until blocks have come over it; 10 Gbit/s."""
    lease_seconds: float = 30.0
    read_limit_seconds: float = 30.0
    """How long the blocks of one request may take at least, the opening of a link included."""
    least_bytes_per_second: float = 62.5e6
    """What a link is taken to give one request at the least, 0.5 Gbit/s: the blocks of a long
    prompt may move for as much longer. 29,000 tokens of a model of 8 billion are 3.75 GB, and take
    30 s over 1 Gbit/s when nothing else is on it."""
    keep_limit_seconds: float = 600.0
    """How long after its grant a lease may be renewed: a reader may wait for blocks of its own, but
    one that is stuck shall not keep those of others for ever."""
    verify: bool = True
    """Compare what arrived with what was sent, where the transport does not and the blocks are in
    host memory: a pass over the bytes on both sides."""

    @property
    def keeps_blocks_exact(self) -> bool:
        """What arrives has no loss, so that it may be cached under the prompt's name."""
        return self.compression in ("off", "lossless")

    def read_seconds(self, size_bytes: int) -> float:
        """Return how long a read of *size_bytes* may take: no longer than its lease is renewed."""
        seconds = self.read_limit_seconds + size_bytes / self.least_bytes_per_second
        return min(seconds, max(self.read_limit_seconds, self.keep_limit_seconds))

    def __post_init__(self) -> None:
        if self.transport not in get_args(TransportName):
            known = ", ".join(get_args(TransportName))
            raise InvalidTransferSettingsError(f"transport is {self.transport}, none of {known}")
        if self.compression not in get_args(CompressionName):
            known = ", ".join(get_args(CompressionName))
            raise InvalidTransferSettingsError(
                f"compression is {self.compression}, none of {known}"
            )
        if self.compression != "off" and self.transport != "tcp":
            raise InvalidTransferSettingsError(
                f"compression {self.compression} needs transport tcp, not {self.transport}"
            )
        for name in (
            "link_bytes_per_second",
            "lease_seconds",
            "read_limit_seconds",
            "least_bytes_per_second",
            "keep_limit_seconds",
        ):
            if not getattr(self, name) > 0:
                raise InvalidTransferSettingsError(f"{name} must be more than 0")
        if not self.host or not 0 < self.port < 2**16:
            raise InvalidTransferSettingsError(f"no address: {self.host}:{self.port}")
        if self.service_port is not None and not 0 < self.service_port < 2**16:
            raise InvalidTransferSettingsError(f"no address: {self.host}:{self.service_port}")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ConnectorSettings":
        """Read vLLM's ``kv_connector_extra_config``.

        Raises:
            InvalidTransferSettingsError: a name is unknown, missing, or has a bad value.
        """
        try:
            return cls(**config)
        except TypeError as error:
            raise InvalidTransferSettingsError(f"kv_connector_extra_config: {error}") from error


def secret_in(environment: Mapping[str, str]) -> bytes | None:
    """Return the service's secret; None: there is none, and whoever reaches an engine is a peer."""
    return environment.get(SECRET_ENV, "").encode() or None


def connector_config(settings: TransferSettings) -> dict[str, Any]:
    """Return vLLM's ``kv_transfer_config`` for *settings*."""
    common = {
        "kv_role": "kv_both",
        "engine_id": settings.engine_id,
        "kv_load_failure_policy": settings.on_load_failure,
    }
    if settings.connector == "nixl":
        return common | {
            "kv_connector": "NixlConnector",
            "kv_buffer_device": settings.buffer_device,
            "kv_connector_extra_config": {"kv_lease_duration": settings.lease_seconds},
        }
    assert settings.own is not None, "our connector needs settings of its own"
    return common | {
        "kv_connector": "TwofoldConnector",
        "kv_connector_module_path": "twofold_kvtransfer.connector.facade",
        "kv_connector_extra_config": dataclasses.asdict(settings.own),
    }


def service_address(config: Mapping[str, Any]) -> str:
    """Return where the engine of *config*, vLLM's ``kv_connector_extra_config``, tells of its peers
    and leases: ``host:port`` of its first rank. Empty: it does not."""
    host, port = config.get("host", ""), config.get("service_port")
    return "" if port is None else host_and_port(host, port)


def side_channel_address(
    config: Mapping[str, Any], parallel: Parallelism, *, caches_prefixes: bool
) -> str:
    """Return where the engine of *config*, vLLM's ``kv_connector_extra_config``, lets its peers ask
    for prefixes: ``host:port``. Empty: it does not."""
    if "port" not in config or not (caches_prefixes and shows_prefixes(parallel)):
        return ""  # another connector, no prefix cache, or ranks that do not see it
    settings = ConnectorSettings.from_config(dict(config))
    return host_and_port(settings.host, settings.port) if settings.keeps_blocks_exact else ""


def host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
