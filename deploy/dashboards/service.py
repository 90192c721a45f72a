"""Whether the users of a service get what they were promised."""

from deploy.dashboards.panels import Dashboard, Query, Row, Step, graph, stat
from deploy.dashboards.promql import quantile, quantiles, rate, router, share

_REQUESTS = router("requests_total")
_STREAMS = router("slo_total")
_ON_TIME = router("slo_total", 'outcome="met"')
_WHOLE = router("tpot_slo_total")
_PACED = router("tpot_slo_total", 'outcome="met"')
_TTFT = router("ttft_seconds")

_GOOD_SHARE = (Step(0.9, "yellow"), Step(0.95, "green"))
_BAD_SHARE = (Step(0.01, "yellow"), Step(0.05, "red"))

_NOW = Row(
    "Now",
    (
        stat("Requests", "Requests that ended, of all modes.", rate(_REQUESTS), "reqps"),
        stat(
            "Goodput",
            "Streams whose first byte came within their class's TTFT.",
            rate(_ON_TIME),
            "reqps",
        ),
        stat(
            "On time",
            "Goodput over all streams, those that failed among them. The alerts want 95 %.",
            share(_ON_TIME, _STREAMS),
            "percentunit",
            *_GOOD_SHARE,
            base="red",
        ),
        stat(
            "Server errors",
            "Share of requests that were answered with 5xx.",
            share(router("requests_total", 'status="5xx"'), _REQUESTS),
            "percentunit",
            *_BAD_SHARE,
        ),
        stat(
            "Fallback",
            "Share of requests that should have had two legs and were served by one worker.",
            share(router("requests_total", 'mode="fallback"'), _REQUESTS),
            "percentunit",
            *_BAD_SHARE,
        ),
        stat(
            "Waiting",
            "Requests that wait in the routers for a prefill worker.",
            f"sum({router('queued')})",
            "short",
            Step(50, "yellow"),
            Step(500, "red"),
        ),
    ),
)

_LATENCY = Row(
    "Latency",
    (
        graph(
            "Time to first token",
            "From the arrival of a request to the first byte of its stream.",
            "s",
            *quantiles(_TTFT, 0.5, 0.9, 0.99),
        ),
        graph(
            "Time per output token",
            "Of the tokens after the first, as a mean over each stream. Rises when too many "
            "decode at once, or when decode workers compute prompts.",
            "s",
            *quantiles(router("tpot_seconds"), 0.5, 0.9, 0.99),
        ),
        graph(
            "Requests to workers",
            "How long each leg takes, up to the end of its answer (p90).",
            "s",
            Query(quantile(0.9, router("leg_seconds"), "leg"), "leg {{leg}}"),
        ),
    ),
)

_SLO = Row(
    "SLO",
    (
        graph(
            "On time by class",
            "Share of each class's streams whose first byte came within its TTFT.",
            "percentunit",
            Query(f"{rate(_ON_TIME, 'class')} / {rate(_STREAMS, 'class')}", "{{class}}"),
            steps=_GOOD_SHARE,
            most=1.0,
        ),
        graph(
            "Paced by class",
            "Share of each class's whole streams whose time per token kept to its TPOT, for "
            "classes that promise one.",
            "percentunit",
            Query(f"{rate(_PACED, 'class')} / {rate(_WHOLE, 'class')}", "{{class}}"),
            steps=_GOOD_SHARE,
            most=1.0,
        ),
        graph(
            "Streams by what became of them",
            "met: on time. late: answered, too late. failed: an error of ours before the first "
            "byte.",
            "reqps",
            Query(rate(_STREAMS, "outcome"), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            "Burn rate",
            "How many times faster than allowed the budget of 5 % late or failed streams is "
            "used. The alerts page at 14.4 and at 6.",
            "short",
            Query(f"(1 - {share(_ON_TIME, _STREAMS)}) / 0.05", "burn rate"),
            steps=(Step(1, "yellow"), Step(6, "red")),
        ),
    ),
)

_SERVED = Row(
    "How requests are served",
    (
        graph(
            "Modes",
            "disaggregated: two legs. aggregated: one worker by choice. fallback: one worker by "
            "need. none: refused before a decision.",
            "reqps",
            Query(rate(_REQUESTS, "mode"), "{{mode}}"),
            stacked=True,
        ),
        graph(
            "Fallbacks by reason",
            "Why a request that should have had two legs is served by one worker; it is in the "
            "answer's x-twofold-reason too.",
            "reqps",
            Query(rate(router("requests_total", 'mode="fallback"'), "reason"), "{{reason}}"),
        ),
        graph(
            "Answers by status",
            "left: the client went before the end.",
            "reqps",
            Query(rate(_REQUESTS, "status"), "{{status}}"),
            stacked=True,
        ),
        graph(
            "Refusals by code",
            "Requests that the router itself answered with an error. The codes are those of "
            "docs/failures.md.",
            "reqps",
            Query(rate(router("refusals_total"), "code"), "{{code}}"),
        ),
        graph(
            "Tokens",
            "As the engines tell of prompts and answers.",
            "tps",
            Query(rate(router("prompt_tokens_total")), "prompt"),
            Query(rate(router("output_tokens_total")), "output"),
        ),
        graph(
            "Streams that broke",
            "tried: another worker goes on with it. unsound, no-worker: the client saw it end.",
            "reqps",
            Query(rate(router("continuations_total"), "outcome"), "{{outcome}}"),
        ),
    ),
)

DASHBOARD = Dashboard(
    "twofold-service",
    "Twofold / Service and SLO",
    "Whether clients get their tokens in time, in which mode, and with which errors.",
    (_NOW, _LATENCY, _SLO, _SERVED),
)
