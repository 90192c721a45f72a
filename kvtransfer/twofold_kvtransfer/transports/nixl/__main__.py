"""Say which ways UCX takes from here: for a worker's pod, where there is no ``twofold doctor``."""

import argparse
import os
import sys
from collections.abc import Callable

from twofold_kvtransfer.transports.nixl.rdma import active_ports
from twofold_kvtransfer.transports.nixl.trying import NoWayError, network_environment, try_way
from twofold_kvtransfer.transports.nixl.ways import Way


def _told(take: Callable[[], Way]) -> str:
    try:
        way = take()
    except NoWayError as error:
        return f"no way: {error}"
    return f"{way} ({way.kind}, {way.protocol})"


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m twofold_kvtransfer.transports.nixl",
        description="Move a MiB between two processes, and say which ways UCX takes from here.",
    ).parse_args()
    lines = (
        f"within this machine: {_told(lambda: try_way(os.environ))}",
        f"to other machines: {_told(lambda: try_way(network_environment(os.environ)))}",
        f"active InfiniBand or RoCE ports: {', '.join(active_ports()) or 'none'}",
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
