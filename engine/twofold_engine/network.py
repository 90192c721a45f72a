"""Whether blocks will cross the network as was asked for."""

import logging
from collections.abc import Callable, Mapping

from twofold_engine.settings import WorkerSettings
from twofold_kvtransfer.transports.nixl.rdma import lack_of_rdma

_log = logging.getLogger(__name__)


def network_warning(
    settings: WorkerSettings,
    environ: Mapping[str, str],
    lack_of_rdma: Callable[[Mapping[str, str]], str] = lack_of_rdma,
) -> str | None:
    """Say, and log, why blocks would not go by RDMA; None if they would, or if nobody asked.

    Args:
        environ: what the engine's UCX will see.
    """
    if not settings.rdma:
        return None
    if (settings.connector, settings.transport) == ("twofold", "tcp"):
        lack = "the transport is tcp"
    else:
        lack = lack_of_rdma(environ)
    if not lack:
        return None
    warning = f"blocks would not cross the network by RDMA: {lack}"
    _log.warning("%s", warning)
    return warning
