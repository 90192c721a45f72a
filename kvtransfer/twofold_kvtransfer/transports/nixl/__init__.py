"""Blocks moved by NIXL over UCX: RDMA, NVLink, shared memory or TCP, as UCX finds."""

from twofold_kvtransfer.transports.nixl.settings import NixlSettings
from twofold_kvtransfer.transports.nixl.transport import NixlTransport

__all__ = ["NixlSettings", "NixlTransport"]
