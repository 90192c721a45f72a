"""``python -m benchmarks.operator_scale``: many services, one operator, a real API server.

The API server is that of scripts/kube-apiserver. What a cluster has beside it is played: routers'
Deployments become available, RayClusters have their pods, and behind each Service of a pool manager
one answers at once. So the figures are the operator's and the API server's, with both on this
machine.

While all is quiet the API server itself counts what it is asked, in its audit log: watches that are
begun again as well, and what the operator lists anew, which it does more often than it would by
default, so that it is within the time measured.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.control_plane import ControlPlane, free_ports
from tests.cluster.name_proxy import NameProxy
from tests.cluster.services import sim

from benchmarks.audit import AuditLog
from benchmarks.exposition import total
from benchmarks.footprint import MIB
from benchmarks.machine import describe_machine
from benchmarks.played_cluster import NAMESPACE, SERVICES_PATH, Cluster
from benchmarks.processes import MeasuredProcess, ask, running
from benchmarks.quiet_managers import QuietManagers
from benchmarks.report import Goal, publish, say, table

CRDS = Path(__file__).parents[1] / "deploy" / "crds"
OPTIONAL_KINDS = (
    ("ray.io/v1", "RayCluster"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1alpha1", "ScrapeConfig"),
)

LOOK_SECONDS = 1.0
LIMIT_SECONDS = 900.0
SETTLE_SECONDS = 30.0
"""After the last change, before the operator counts as quiet."""

QUIET_SECONDS = 300.0
"""Longer than a watch lasts (290 s)."""
RESYNC_SECONDS = 200.0
"""Once or twice within QUIET_SECONDS; the operator's default is 600."""

START_GOAL_SECONDS = 120.0
QUIET_GOAL = 1.0
"""Requests a second."""


class Operator:
    """One life of the operator's process."""

    def __init__(self, process: MeasuredProcess, port: int) -> None:
        self.process = process
        self._port = port

    def sample(self, name: str) -> float:
        """Return a metric, summed over its labels; 0 while there is none."""
        status, page = ask(self._port, "GET", "/metrics")
        return (total(page.decode(), name) or 0.0) if status == 200 else 0.0

    def wait(self, is_so: Callable[[], bool]) -> float:
        """Return the seconds until *is_so*.

        Raises:
            TimeoutError: it never was.
            ProcessError: the operator ended.
        """
        began = time.monotonic()
        while not is_so():
            self.process.check()
            if time.monotonic() - began > LIMIT_SECONDS:
                raise TimeoutError(f"not within {LIMIT_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - began


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        with ControlPlane(logs) as plane:
            plane.define([yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))])
            for kind in OPTIONAL_KINDS:
                plane.define_loosely(*kind)
            with (
                NameProxy() as proxy,
                QuietManagers() as managers,
                Cluster(plane, proxy, managers) as cluster,
            ):
                results = measure(cluster, plane, proxy, logs, parsed)
    say(render(results))
    return publish("operator_scale", {"machine": machine, **results}, goals(results), parsed.json)


def measure(
    cluster: Cluster,
    plane: ControlPlane,
    proxy: NameProxy,
    logs: Path,
    parsed: argparse.Namespace,
) -> dict[str, Any]:
    count = parsed.services
    cluster.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for number in range(count):
        service = sim()
        service["metadata"] = {"name": f"chat-{number}"}
        cluster.create(SERVICES_PATH, service)
    (port,) = free_ports(1)
    command = [
        *("env", f"KUBECONFIG={plane.kubeconfig}", f"grpc_proxy={proxy.url}"),
        *("TWOFOLD_REDIS_URL=redis://redis.example:6379/0", sys.executable),
        *("-m", "twofold_operator", "--host=127.0.0.1", f"--metrics-port={port}"),
        *(f"--namespace={NAMESPACE}", f"--own-namespace={NAMESPACE}"),
        f"--resync-seconds={parsed.resync_seconds:g}",
    ]
    with running("first operator", command, logs) as process:
        operator = Operator(process, port)
        first_seconds = operator.wait(lambda: cluster.ready_count() == count)
        made_by = operator.sample("twofold_operator_api_requests_total")
        time.sleep(SETTLE_SECONDS)
        quiet = _quiet(operator, AuditLog(plane.audit_log), parsed.quiet_seconds)
    with running("second operator", command, logs) as process:
        operator = Operator(process, port)
        again_seconds = operator.wait(lambda: _has_seen_all(operator, count))
        asked = operator.sample("twofold_operator_api_requests_total")
        changed = operator.sample("twofold_operator_actions_total")
    return {
        "services": count,
        "first": {"seconds": first_seconds, "requests": made_by},
        "again": {"seconds": again_seconds, "requests": asked, "actions": changed},
        "quiet": quiet,
    }


def goals(results: dict[str, Any]) -> list[Goal]:
    return [
        Goal("all services ready", results["first"]["seconds"], START_GOAL_SECONDS, "s"),
        Goal("all services seen again", results["again"]["seconds"], START_GOAL_SECONDS, "s"),
        Goal("requests while quiet", results["quiet"]["requests_per_second"], QUIET_GOAL, "/s"),
    ]


def render(results: dict[str, Any]) -> str:
    first, again, quiet = results["first"], results["again"], results["quiet"]
    rows = [
        ("none is there: until all are ready", first["seconds"], first["requests"]),
        (
            "all are there, a new process: until all are planned",
            again["seconds"],
            again["requests"],
        ),
        ("quiet", quiet["seconds"], quiet["requests"]),
    ]
    headers = (f"{results['services']} services", "seconds", "requests to the API server")
    quietly = (
        f"quiet: {quiet['watches']} watches begun, {quiet['resyncs']} times all listed, "
        f"{quiet['cpu_share']:.1%} of a core, {quiet['resident_mib']:.0f} MiB"
    )
    written = f"written by the new process: {again['actions']:.0f}"
    return "\n\n".join((table(headers, rows), quietly, written))


def _quiet(operator: Operator, log: AuditLog, seconds: float) -> dict[str, float]:
    since = log.size_bytes()
    cpu_before, began = operator.process.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    asked = log.asked(since)
    requests = asked.total()
    return {
        "seconds": took,
        "requests": requests,
        "requests_per_second": requests / took,
        "watches": sum(count for (verb, _), count in asked.items() if verb == "watch"),
        "resyncs": asked["list", "llmservices"],
        "cpu_share": (operator.process.cpu_seconds() - cpu_before) / took,
        "resident_mib": operator.process.resident_bytes() / MIB,
    }


def _has_seen_all(operator: Operator, count: int) -> bool:
    """Tell whether each service was planned for with its manager connected, and none waits."""
    return (
        operator.sample("twofold_operator_connected_pool_managers") >= count
        and operator.sample("twofold_operator_reconciliations_total") >= count
        and operator.sample("twofold_operator_queue_depth") == 0
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--quiet-seconds", type=float, default=QUIET_SECONDS)
    parser.add_argument("--resync-seconds", type=float, default=RESYNC_SECONDS)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
