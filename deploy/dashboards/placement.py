"""Whether requests go where their prefixes are, without anybody being overloaded."""

from deploy.dashboards.panels import Dashboard, Query, Row, Step, graph, stat
from deploy.dashboards.promql import mean, quantiles, rate, router, share

_PROMPTS = router("prompt_tokens_total")
_PREDICTED = router("cached_tokens_predicted_total")
_REPORTED = router("cached_tokens_reported_total")

_CACHE = Row(
    "Cache",
    (
        graph(
            "Hit rate",
            "Share of the prompts' tokens that were expected in the chosen worker's cache, and "
            "that the engine found there. A gap means that the mirrors are wrong: look at the "
            "KV events.",
            "percentunit",
            Query(share(_PREDICTED, _PROMPTS), "predicted"),
            Query(share(_REPORTED, _PROMPTS), "reported"),
            most=1.0,
        ),
        graph(
            "Mirrored blocks",
            "Blocks that the routers think each worker holds. exact: told by its KV events. "
            "degraded: events were lost, and not all were sent again.",
            "short",
            Query(
                f"max by (worker, state) ({router('worker_mirrored_blocks')})",
                "{{worker}} {{state}}",
            ),
        ),
        graph(
            "KV events",
            "Batches of events from the engines, by what happened to them.",
            "ops",
            Query(rate(router("kv_events_total"), "what"), "{{what}}"),
        ),
    ),
)

_LOAD = Row(
    "Load",
    (
        stat(
            "Skew",
            "Most pending tokens of a prefill worker over the mean: 1 is even. Over 2 for "
            "minutes, a hot prefix stays at too few homes.",
            f"max({router('prefill_skew')})",
            "none",
            Step(2, "yellow"),
            Step(4, "red"),
        ),
        stat("In flight", "Requests at workers.", f"sum({router('in_flight')})"),
        stat(
            "Queued",
            "Requests that wait for a prefill worker.",
            f"sum({router('queued')})",
            "short",
            Step(50, "yellow"),
            Step(500, "red"),
        ),
        graph(
            "Pending tokens by worker",
            "Uncached tokens ahead of a newcomer, summed over the routers.",
            "short",
            Query(f"sum by (worker) ({router('worker_pending_tokens')})", "{{worker}}"),
        ),
        graph(
            "Skew over time",
            "Most pending tokens of a prefill worker over the mean, of the worst router.",
            "none",
            Query(f"max({router('prefill_skew')})", "skew"),
            steps=(Step(2, "yellow"), Step(4, "red")),
        ),
        graph(
            "Requests by phase",
            "Where the requests of these routers are.",
            "short",
            Query(f"sum by (phase) ({router('worker_in_flight')})", "{{phase}}"),
            stacked=True,
        ),
    ),
)

_QUEUE = Row(
    "Queue",
    (
        graph(
            "Time in the queue",
            "From asking for a place to having one.",
            "s",
            *quantiles(router("queue_seconds"), 0.5, 0.9, 0.99),
        ),
        graph(
            "Queued over time",
            "Requests that wait for a prefill worker. Growth without an end means too few of them.",
            "short",
            Query(f"sum({router('queued')})", "queued"),
        ),
        graph(
            "Moves",
            "Waiting requests that were moved to another worker, because that paid.",
            "ops",
            Query(rate(router("moves_total")), "moves"),
        ),
    ),
)

_DECISIONS = Row(
    "Decisions",
    (
        graph(
            "TTFT, predicted and measured",
            "Means. What is predicted steers the placement; a lasting gap makes it choose badly.",
            "s",
            Query(mean(router("ttft_predicted_seconds")), "predicted"),
            Query(mean(router("ttft_seconds")), "measured"),
        ),
        graph(
            "Computing time of a decision",
            "Some tens of microseconds.",
            "s",
            *quantiles(router("placement_seconds"), 0.5, 0.99),
            steps=(Step(0.001, "yellow"),),
        ),
        graph(
            "Searches for another worker",
            "A leg that a worker refused or failed, tried elsewhere.",
            "ops",
            Query(rate(router("retries_total"), "leg"), "leg {{leg}}"),
        ),
    ),
)

DASHBOARD = Dashboard(
    "twofold-placement",
    "Twofold / Placement and cache",
    "Where requests are placed, what is found in the caches there, and who waits.",
    (_CACHE, _LOAD, _QUEUE, _DECISIONS),
)
