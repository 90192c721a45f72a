"""One router in several processes: one places, the others serve clients and ask it.

The placement process owns the workers, the placement, the limits of the keys and the sockets for
clients. Each gateway process owns its connections and what it counts. They talk over a pair of Unix
sockets each, which has no name: nobody else can connect, and nothing is left behind.

A gateway process that ends loses its connections, and no more: what it held in the placement is
given back, and another takes its socket over. Without the placement process the others end, so
that whoever supervises the router starts all of it again; what is in flight has the time of a
drain.
"""

from twofold_router.processes.assignment import GATEWAY_FLAG, Assignment
from twofold_router.processes.gateway_process import run_gateway_process
from twofold_router.processes.logs import log_as_gateway
from twofold_router.processes.placement_process import run_processes

__all__ = ["GATEWAY_FLAG", "Assignment", "log_as_gateway", "run_gateway_process", "run_processes"]
