"""Try which ways cache blocks take from this machine, for the doctor."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from twofold_cli.doctor import FoundWay, Ways

if TYPE_CHECKING:
    from twofold_kvtransfer.transports.nixl.ways import Kind, Way


def try_ways(environ: Mapping[str, str]) -> Ways:
    """Have NIXL move a MiB between processes, twice at once: a few seconds. It must be installed.

    Args:
        environ: what UCX is to see.
    """
    # Here and not above: it needs what a machine for routers has not.
    from twofold_kvtransfer.transports.nixl.rdma import active_ports
    from twofold_kvtransfer.transports.nixl.settings import UCX_VARIABLES
    from twofold_kvtransfer.transports.nixl.trying import network_environment, try_way
    from twofold_kvtransfer.transports.nixl.ways import Kind

    with ThreadPoolExecutor(2) as threads:
        within = threads.submit(_found, lambda: try_way(environ), Kind.SHARED_MEMORY, Kind.GPU)
        outwards = threads.submit(_found, lambda: try_way(network_environment(environ)), Kind.RDMA)
        return Ways(
            within=within.result(),
            outwards=outwards.result(),
            rdma_ports=active_ports(),
            ucx_settings={name: environ[name] for name in UCX_VARIABLES if name in environ},
        )


def _found(take: "Callable[[], Way]", *fast: "Kind") -> FoundWay:
    from twofold_kvtransfer.transports.nixl.trying import NoWayError

    try:
        way = take()
    except NoWayError as error:
        return FoundWay(f"UCX finds no way: {error}", works=False)
    return FoundWay(f"UCX takes {way} ({way.kind})", is_fast=way.kind in fast)
