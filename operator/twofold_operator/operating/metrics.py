"""What the operator tells Prometheus of itself."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class OperatorMetrics:
    """All metrics of one operator, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciliations = Counter(
            "twofold_operator_reconciliations",
            "Times a service was planned and the plan carried out, by result",
            ["result"],
            registry=self.registry,
        )
        self.errors = Counter(
            "twofold_operator_errors",
            "Reconciliations that failed, by the error's name",
            ["error"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "twofold_operator_reconciliation_duration_seconds",
            "How long a reconciliation took",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.actions = Counter(
            "twofold_operator_actions",
            "What plans asked for, by action",
            ["action"],
            registry=self.registry,
        )
        self.requests = Counter(
            "twofold_operator_api_requests",
            "Answers of the Kubernetes API, without watches; code 0: there was none",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.watch_events = Counter(
            "twofold_operator_watch_events",
            "Objects that watches brought, by resource",
            ["resource"],
            registry=self.registry,
        )
        self.missed = Counter(
            "twofold_operator_missed_changes",
            "Objects that a listing brought and no watch had",
            ["resource"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "twofold_operator_leader", "1 while this process acts", registry=self.registry
        )
        for result in ("settled", "changed", "conflict", "waiting", "failed"):
            self.reconciliations.labels(result)

    def count_request(self, verb: str, resource: str, code: int) -> None:
        self.requests.labels(verb, resource, code).inc()

    def follow(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Ask *read* for a gauge's value whenever Prometheus comes."""
        Gauge(f"twofold_operator_{name}", help_, registry=self.registry).set_function(read)
