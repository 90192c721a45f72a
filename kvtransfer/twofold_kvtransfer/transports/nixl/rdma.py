"""Whether blocks would cross the network by RDMA, and why not."""

from collections.abc import Callable, Mapping
from pathlib import Path

from twofold_kvtransfer.transports.nixl.trying import NoWayError, network_environment, try_way
from twofold_kvtransfer.transports.nixl.ways import Kind, Way

DEVICES = Path("/sys/class/infiniband")
"""InfiniBand's, RoCE's and EFA's devices; a container sees those of its node here, also when it
may not use them."""

Try = Callable[[Mapping[str, str]], Way]


def active_ports(devices: Path = DEVICES) -> tuple[str, ...]:
    """Return the ports that have a link, as UCX names them: ``mlx5_0:1``."""
    return tuple(
        f"{state.parent.parent.parent.name}:{state.parent.name}"
        for state in sorted(devices.glob("*/ports/*/state"))
        if _first_word(state) == "4"
    )


def lack_of_rdma(
    environ: Mapping[str, str], *, devices: Path = DEVICES, try_way: Try = try_way
) -> str:
    """Say why blocks would not go to another machine by RDMA; empty if they would. Takes seconds
    where there is a port, because then UCX is tried.

    Args:
        environ: what UCX is to see.
    """
    ports = active_ports(devices)
    if not ports:
        return "no InfiniBand or RoCE port is active here"
    try:
        way = try_way(network_environment(environ))
    except NoWayError as error:
        return f"UCX finds no way to other machines: {error}"
    if way.kind is Kind.RDMA:
        return ""
    return f"UCX takes {way} ({way.kind}) though {', '.join(ports)} is active"


def _first_word(state: Path) -> str:
    """Return the number of a port's *state*: ``4: ACTIVE``."""
    try:
        return state.read_text().partition(":")[0]
    except OSError:
        return ""
