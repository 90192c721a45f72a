"""Whether Twofold itself is well: routers, Redis, operator."""

from deploy.dashboards.panels import Dashboard, Query, Row, Step, graph, stat
from deploy.dashboards.promql import WINDOW, quantile, rate, router

_ANY = (Step(0.001, "red"),)
_OPERATOR = "twofold_operator_"

_ROUTERS = Row(
    "Routers",
    (
        stat("Routers", "That Prometheus reads.", f"count({router('in_flight')})"),
        stat(
            "Workers known",
            "By the router that knows the fewest.",
            f"min(sum by (instance) ({router('workers')}))",
            "short",
            Step(1, "green"),
            base="red",
        ),
        graph(
            "Connections",
            "Of clients, by router.",
            "short",
            Query(f"sum by (instance) ({router('connections')})", "{{instance}}"),
        ),
        graph(
            "Requests at workers",
            "By router. Uneven for long: the Service in front does not spread connections.",
            "short",
            Query(f"sum by (instance) ({router('in_flight')})", "{{instance}}"),
        ),
        graph(
            "Workers by role",
            "That the routers know; the fewest over all routers.",
            "short",
            Query(f"min by (role) ({router('workers')})", "{{role}}"),
        ),
        graph(
            "Gateway processes",
            "Only of routers with several: which answer.",
            "short",
            Query(f"sum by (state) ({router('processes')})", "{{state}}"),
            stacked=True,
        ),
        graph(
            "Gateway processes that ended",
            "Each was replaced, and took its connections with it.",
            "ops",
            Query(rate(router("process_ends_total")), "ended"),
            steps=_ANY,
        ),
        graph(
            "Key files read again",
            "By outcome; failed: the keys before stay in force.",
            "ops",
            Query(rate(router("key_reloads_total"), "outcome"), "{{outcome}}"),
        ),
    ),
)

_REDIS = Row(
    "Redis",
    (
        stat(
            "Membership",
            "1 while a router cannot read Redis and goes on with what it knew.",
            f"max({router('membership_stale')})",
            "none",
            Step(1, "red"),
        ),
        graph(
            "Stale membership by router",
            "1 while Redis cannot be read. All of them: Redis is away. One: its network is.",
            "none",
            Query(f"max by (instance) ({router('membership_stale')})", "{{instance}}"),
            steps=(Step(1, "red"),),
            most=1.0,
        ),
        graph(
            "Limits counted alone",
            "Requests whose key's limits a router counted by itself, as Redis was away.",
            "reqps",
            Query(rate(router("limits_alone_total")), "alone"),
            steps=_ANY,
        ),
        graph(
            "Disagreement",
            "Difference between the routers of a service in how many workers they know. "
            "Seconds of it are normal.",
            "short",
            Query(
                f"max by (namespace, service, role) ({router('workers')}) - "
                f"min by (namespace, service, role) ({router('workers')})",
                "{{service}} {{role}}",
            ),
        ),
    ),
)

_OPERATOR_ROW = Row(
    "Operator",
    (
        stat(
            "Leaders",
            "Operators that act; more or less than 1 for a minute is a fault.",
            f"sum({_OPERATOR}leader)",
            "none",
            Step(1, "green"),
            Step(2, "red"),
            base="red",
        ),
        stat(
            "Lag",
            "How long the resource that waits longest has waited.",
            f"max({_OPERATOR}lag_seconds)",
            "s",
            Step(30, "yellow"),
            Step(120, "red"),
        ),
        stat(
            "Queue",
            "Resources that wait to be reconciled.",
            f"sum({_OPERATOR}queue_depth)",
            "short",
            Step(100, "yellow"),
        ),
        graph(
            "Reconciliations",
            "By result.",
            "ops",
            Query(rate(f"{_OPERATOR}reconciliations_total", "result"), "{{result}}"),
        ),
        graph(
            "Time of a reconciliation",
            "Without the wait before it.",
            "s",
            Query(quantile(0.5, f"{_OPERATOR}reconciliation_duration_seconds{{}}"), "p50"),
            Query(quantile(0.99, f"{_OPERATOR}reconciliation_duration_seconds{{}}"), "p99"),
        ),
        graph(
            "API requests",
            "To the API server. Quiet resources cost none.",
            "reqps",
            Query(
                f"sum by (verb, code) (rate({_OPERATOR}api_requests_total[{WINDOW}]))",
                "{{verb}} {{code}}",
            ),
            stacked=True,
        ),
    ),
)

DASHBOARD = Dashboard(
    "twofold-platform",
    "Twofold / Platform",
    "The routers, what they share through Redis, and the operator.",
    (_ROUTERS, _REDIS, _OPERATOR_ROW),
)
