"""What somebody should be told of, and the rules that other rules stand on."""

from dataclasses import dataclass
from typing import Literal

from deploy.dashboards.promql import either

RUNBOOKS = "docs/runbooks.md"
"""Below the root of the repository, whose address differs by who hosts it: no ``runbook_url``,
which must be a URL. The chart makes one where ``prometheusRule.runbookBaseUrl`` says the rest."""

OBJECTIVE = 0.95
"""Share of the streams that are to be on time."""

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class Alert:
    """``summary`` names what happens, ``effect`` what users notice; both go to who is told."""

    name: str
    expression: str
    holds_for: str
    severity: Severity
    summary: str
    effect: str

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}#{self.name.lower()}"


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    rules: tuple[Recording | Alert, ...]


_BY = "by (namespace, service)"
_BUDGET = round(1 - OBJECTIVE, 4)
_MISSED = "service:twofold_slo_missed:ratio_rate"
_SERVICE = "{{ $labels.namespace }}/{{ $labels.service }}"


def _missed(window: str) -> Recording:
    met = f'sum {_BY} (rate(twofold_router_slo_total{{outcome="met"}}[{window}]))'
    streams = f"sum {_BY} (rate(twofold_router_slo_total[{window}]))"
    # Without a stream there is nothing to miss, and no ratio.
    return Recording(f"{_MISSED}{window}", f"1 - (({met} or 0 * {streams}) / ({streams} > 0))")


def _burns(factor: float, long: str, short: str) -> str:
    """Both windows: the long one for weight, the short one to end soon after the trouble."""
    limit = f"{factor * _BUDGET:g}"
    return f"{_MISSED}{long} > {limit} and {_MISSED}{short} > {limit}"


_RECORDINGS = Group("twofold-slo", tuple(map(_missed, ("5m", "30m", "1h", "6h", "3d"))))

_SLO_ALERTS = Group(
    "twofold-slo-alerts",
    (
        Alert(
            "TwofoldSLOBurnsFast",
            f"({_burns(14.4, '1h', '5m')}) or ({_burns(6, '6h', '30m')})",
            "2m",
            "critical",
            f"{_SERVICE} misses its TTFT for most of its streams",
            "Clients wait longer for the first token than they were promised, or get errors.",
        ),
        Alert(
            "TwofoldSLOBurnsSlowly",
            _burns(1, "3d", "6h"),
            "1h",
            "warning",
            f"{_SERVICE} has missed its TTFT for more than {_BUDGET:.0%} of its streams for days",
            "The budget of late streams is used up before its time.",
        ),
    ),
)


_REQUESTS = f"sum {_BY} (rate(twofold_router_requests_total[10m]))"
_FALLBACKS = f'sum {_BY} (rate(twofold_router_requests_total{{mode="fallback"}}[10m]))'
# What NixlConnector and our own call the same; an engine has one of the two.
_FAILURES = either(
    "vllm:nixl_num_failed_transfers_total", "twofold_kv_transfer_failures_total", matchers=""
)
_DONE = either(
    "vllm:nixl_xfer_time_seconds_count", "twofold_kv_transfer_seconds_count", matchers=""
)
_FAILED_TRANSFERS = f"sum {_BY} (rate({_FAILURES}[10m]))"
_TRANSFERS = f"sum {_BY} (rate({_DONE}[10m]))"
# Joined by `or` before they are summed: their labels differ, so that none hides another.
_DAMAGED = (
    'increase(twofold_kv_transfer_failures_total{reason="integrity"}[1h]) or '
    'increase(twofold_kv_prefix_pulls_total{outcome="damaged"}[1h])'
)
_EXPIRED = (
    f"sum {_BY} (increase(vllm:nixl_num_kv_expired_reqs_total[10m])) or "
    f'sum {_BY} (increase(twofold_kv_leases_ended_total{{cause="expired"}}[10m]))'
)
_QUEUED = f"sum {_BY} (twofold_router_queued)"
_NO_WORKERS = f"sum {_BY} (max by (namespace, service, role) (twofold_router_workers)) == 0"
# Of a new service, and of one that is scaled to zero, neither is so: its last workers drained.
_MISSED_WORKERS = (
    f"sum {_BY} (increase(twofold_router_worker_losses_total[1h])) > 0 or "
    f'sum {_BY} (increase(twofold_router_refusals_total{{code="no_worker"}}[10m])) > 0'
)

# A Prometheus that was never told to scrape the operator misses none; nor does one whose services
# have gone as well: those of the operator's namespace, or with the last operator all.
_GONE = (
    "(group by (namespace) (present_over_time(twofold_operator_leader[3d])) "
    "unless group by (namespace) (twofold_operator_leader))"
)
_OPERATORS_GONE = (
    f"{_GONE} and group by (namespace) (twofold_router_workers) "
    f"or {_GONE} and on () (absent(twofold_operator_leader) and count(twofold_router_workers))"
)

_SERVING = Group(
    "twofold-serving",
    (
        Alert(
            "TwofoldSilentFallback",
            f"{_FALLBACKS} / {_REQUESTS} > 0.05",
            "10m",
            "warning",
            f"{_SERVICE} serves {{{{ $value | humanizePercentage }}}} of its requests in fallback",
            "Every answer is right, but decode workers compute prompts and stall their streams.",
        ),
        Alert(
            "TwofoldTransfersFail",
            f"{_FAILED_TRANSFERS} / ({_FAILED_TRANSFERS} + {_TRANSFERS}) > 0.01",
            "5m",
            "warning",
            f"{{{{ $value | humanizePercentage }}}} of the KV transfers of {_SERVICE} fail",
            "Their prompts are computed twice.",
        ),
        Alert(
            "TwofoldBlocksDamaged",
            f"sum {_BY} ({_DAMAGED}) > 0",
            "0m",
            "warning",
            f"KV blocks of {_SERVICE} arrived otherwise than they were sent",
            "No answer was made of them; some memory or wire is not right.",
        ),
        Alert(
            "TwofoldLeasesExpire",
            f"({_EXPIRED}) > 5",
            "5m",
            "warning",
            f"blocks of {_SERVICE} are computed and not read before their lease ends",
            "Prefill workers hold KV cache for nobody, and have less of it for prompts.",
        ),
        Alert(
            "TwofoldQueueGrows",
            f"{_QUEUED} > 50 and sum {_BY} (deriv(twofold_router_queued[10m])) > 0",
            "5m",
            "warning",
            f"{{{{ $value }}}} requests wait in the routers of {_SERVICE}, and ever more",
            "The time to the first token rises; when the queue is full, requests get 429.",
        ),
        Alert(
            "TwofoldNoWorkers",
            f"{_NO_WORKERS} and ({_MISSED_WORKERS})",
            "2m",
            "critical",
            f"{_SERVICE} has no worker, and lost some or is asked",
            "Every request gets 503.",
        ),
        Alert(
            "TwofoldWorkersLost",
            f"max {_BY} (sum by (namespace, service, instance) "
            "(increase(twofold_router_worker_losses_total[30m]))) > 2",
            "0m",
            "warning",
            f"{{{{ $value | humanize }}}} workers of {_SERVICE} were lost within 30 minutes",
            "Streams break and go on elsewhere; what their caches held is computed again.",
        ),
        Alert(
            "TwofoldMembershipStale",
            f"max {_BY} (twofold_router_membership_stale) == 1",
            "2m",
            "critical",
            f"a router of {_SERVICE} cannot read Redis",
            "It goes on with the workers it knew: new ones get nothing, dead ones are tried.",
        ),
    ),
)

_OPERATOR = Group(
    "twofold-operator",
    (
        Alert(
            "TwofoldOperatorNotReconciling",
            "max(twofold_operator_lag_seconds) > 120",
            "5m",
            "critical",
            "a resource has waited for {{ $value | humanizeDuration }} to be reconciled",
            "What serves goes on; changes, scaling and repairs do not happen.",
        ),
        Alert(
            "TwofoldOperatorWithoutLeader",
            f"sum by (namespace, job) (twofold_operator_leader) == 0 or ({_OPERATORS_GONE})",
            "2m",
            "critical",
            "no operator runs{{ with $labels.namespace }} in {{ . }}{{ end }} that holds the Lease",
            "What serves goes on; changes, scaling and repairs do not happen.",
        ),
        Alert(
            "TwofoldOperatorErrors",
            "sum(rate(twofold_operator_errors_total[15m])) > 0.02",
            "15m",
            "warning",
            "reconciliations fail again and again",
            "Some resource does not become what was asked for.",
        ),
    ),
)

GROUPS = (_RECORDINGS, _SLO_ALERTS, _SERVING, _OPERATOR)

ALERTS = tuple(rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert))
