"""What the engines do, and what goes over the wires between them."""

from deploy.dashboards.panels import Dashboard, Query, Row, Step, graph, stat
from deploy.dashboards.promql import (
    chosen,
    either,
    part_of,
    quantile,
    quantiles,
    rate,
    router,
    share,
)

_TRANSFER = either("vllm:nixl_xfer_time_seconds", "twofold_kv_transfer_seconds")
_FAILED = either("vllm:nixl_num_failed_transfers_total", "twofold_kv_transfer_failures_total")
_DIRECTORY = "twofold_kv_directory_"
_EXPIRED = chosen("twofold_kv_leases_ended_total", 'cause="expired"')
_BY_WORKER = "{{worker}}"
_IS_WORKER = 'role!=""'
"""Only what the routers tell of has a role."""
_ANY = (Step(0.001, "red"),)

_NOW = Row(
    "Now",
    (
        stat(
            "Workers that answer",
            "Engines that Prometheus reads.",
            f"sum({chosen('up', _IS_WORKER)})",
        ),
        stat(
            "Youngest worker",
            "Age of the engine that started last. Young again and again: something kills them.",
            f"time() - max({chosen('process_start_time_seconds', _IS_WORKER)})",
            "dtdurations",
        ),
        stat(
            "Failed transfers",
            "Share of the KV transfers that failed.",
            f"({rate(_FAILED)} or vector(0)) / "
            f"({rate(_FAILED)} + {rate(part_of(_TRANSFER, 'count'))})",
            "percentunit",
            Step(0.001, "yellow"),
            Step(0.01, "red"),
        ),
        stat(
            "Fullest KV cache",
            "Of all workers; near 100 % the engine preempts requests.",
            f"max({chosen('vllm:kv_cache_usage_perc')})",
            "percentunit",
            Step(0.9, "yellow"),
            Step(0.98, "red"),
        ),
    ),
)

_ENGINES = Row(
    "Engines",
    (
        graph(
            "Running requests",
            "Requests in each engine's batch.",
            "short",
            Query(f"sum by (worker) ({chosen('vllm:num_requests_running')})", _BY_WORKER),
        ),
        graph(
            "Waiting requests",
            "Requests that wait inside the engines. The routers hold back what prefill workers "
            "have no room for, so that this stays low.",
            "short",
            Query(f"sum by (worker) ({chosen('vllm:num_requests_waiting')})", _BY_WORKER),
        ),
        graph(
            "KV cache in use",
            "Share of the blocks that are lent to requests.",
            "percentunit",
            Query(f"max by (worker) ({chosen('vllm:kv_cache_usage_perc')})", _BY_WORKER),
            steps=(Step(0.9, "yellow"), Step(0.98, "red")),
            most=1.0,
        ),
        graph(
            "Prompt tokens",
            "Computed, by role. Decode workers that compute much serve fallbacks.",
            "tps",
            Query(rate(chosen("vllm:prompt_tokens_total"), "role"), "{{role}}"),
        ),
        graph(
            "Generated tokens",
            "By role.",
            "tps",
            Query(rate(chosen("vllm:generation_tokens_total"), "role"), "{{role}}"),
        ),
        graph(
            "Preemptions",
            "Requests thrown out of a batch because the KV cache was full, and computed again.",
            "ops",
            Query(rate(chosen("vllm:num_preemptions_total"), "worker"), _BY_WORKER),
        ),
        graph(
            "Prefill time",
            "Of a request inside the engine (p90, by role).",
            "s",
            Query(quantile(0.9, chosen("vllm:request_prefill_time_seconds"), "role"), "{{role}}"),
        ),
        graph(
            "Time between tokens",
            "Inside the engines.",
            "s",
            *quantiles(chosen("vllm:inter_token_latency_seconds"), 0.5, 0.9, 0.99),
        ),
        graph(
            "Prefix cache hits",
            "Share of the prompts' tokens that the engines found in their own caches, by worker.",
            "percentunit",
            Query(
                f"{rate(chosen('vllm:prefix_cache_hits_total'), 'worker')} / "
                f"{rate(chosen('vllm:prefix_cache_queries_total'), 'worker')}",
                _BY_WORKER,
            ),
            most=1.0,
        ),
        graph(
            "Ended requests",
            "As the engines see it. A leg 1 ends by length.",
            "reqps",
            Query(
                rate(chosen("vllm:request_success_total"), "finished_reason"), "{{finished_reason}}"
            ),
            stacked=True,
        ),
        graph(
            "Time in the engine's queue",
            "Before a request is in a batch (p90, by role).",
            "s",
            Query(quantile(0.9, chosen("vllm:request_queue_time_seconds"), "role"), "{{role}}"),
        ),
        graph(
            "Workers lost",
            "Workers that went without draining: killed, crashed, or out of reach for longer "
            "than their announcement lasts.",
            "ops",
            Query(rate(router("worker_losses_total"), "role"), "{{role}}"),
            steps=_ANY,
        ),
    ),
)

_TRANSFERS = Row(
    "KV transfer",
    (
        graph(
            "Transfers",
            "Reads of blocks from a prefill worker, by the decode worker that reads.",
            "ops",
            Query(rate(part_of(_TRANSFER, "count"), "worker"), _BY_WORKER),
        ),
        graph(
            "Time of a transfer",
            "All of it is part of the time to the first token.",
            "s",
            *quantiles(_TRANSFER, 0.5, 0.9, 0.99),
        ),
        graph(
            "Bandwidth of a read",
            "Bytes of blocks over the time that they moved, of each rank; with the connector "
            "twofold.",
            "Bps",
            *quantiles(chosen("twofold_kv_transfer_bytes_per_second"), 0.1, 0.5, 0.9),
        ),
        graph(
            "Compression",
            "Bytes that the transport tcp moved over those of the blocks that came by them, by "
            "codec; with the connector twofold.",
            "percentunit",
            Query(
                f"{rate(chosen('twofold_kv_transfer_payload_bytes_total'), 'codec')} / "
                f"{rate(chosen('twofold_kv_transfer_block_bytes_total'), 'codec')}",
                "{{codec}}",
            ),
        ),
        graph(
            "Reads",
            "Requests whose blocks are read, or wait for room for them, over all workers; with the "
            "connector twofold.",
            "short",
            Query(f"sum by (state) ({chosen('twofold_kv_reads')})", "{{state}}"),
        ),
        graph(
            "Leases",
            "On blocks of leg 1 and of pins, over all workers: promised, held, and of these "
            "claimed and pinned; with the connector twofold.",
            "short",
            Query(f"sum by (state) ({chosen('twofold_kv_leases')})", "{{state}}"),
        ),
        graph(
            "Tokens fetched",
            "Tokens of prompts whose blocks came from another worker, and of those that were "
            "looked for there.",
            "tps",
            Query(rate(chosen("vllm:external_prefix_cache_hits_total")), "fetched"),
            Query(rate(chosen("vllm:external_prefix_cache_queries_total")), "looked for"),
        ),
        graph(
            "Prefixes pulled",
            "Requests that named a worker with the beginning of their prompt, by what came of it. "
            "Where it was not pulled, the prompt was computed; with the connector twofold.",
            "ops",
            Query(rate(chosen("twofold_kv_prefix_pulls_total"), "outcome"), "{{outcome}}"),
        ),
        graph(
            "Bandwidth of prefixes",
            "Bytes of the prefixes that were read over the time that each rank took for them.",
            "Bps",
            Query(
                f"{rate(chosen('twofold_kv_prefix_bytes_total'))} / "
                f"{rate(chosen('twofold_kv_prefix_seconds_total'))}",
                "of a rank",
            ),
        ),
        graph(
            "Failures",
            "Transfers and notifications that failed. The requests were computed again, and are "
            "fallbacks with the reason transfer-failed.",
            "ops",
            Query(rate(_FAILED), "transfers"),
            Query(rate(chosen("vllm:nixl_num_failed_notifications_total")), "notifications"),
            steps=_ANY,
        ),
        graph(
            "Leases that ended",
            "expired: blocks of a leg 1 that nobody read in time. late: a read that ended after "
            "its lease, which may have read blocks of somebody else.",
            "ops",
            Query(
                f"{rate(chosen('vllm:nixl_num_kv_expired_reqs_total'))} or {rate(_EXPIRED)}",
                "expired",
            ),
            Query(rate(chosen("vllm:nixl_num_notifications_after_expiry_total")), "late"),
            steps=_ANY,
        ),
        graph(
            "Blocks given back unread",
            "The routers' releases after a leg 1 without a leg 2, by outcome.",
            "ops",
            Query(rate(router("releases_total"), "outcome"), "{{outcome}}"),
        ),
        graph(
            "Failed requests to workers",
            "As the routers see them, by leg and kind.",
            "ops",
            Query(rate(router("upstream_errors_total"), "leg, kind"), "leg {{leg}}: {{kind}}"),
            steps=_ANY,
        ),
        graph(
            "Share of prompts fetched",
            "Of the tokens that were looked for at other workers, those that came.",
            "percentunit",
            Query(
                share(
                    chosen("vllm:external_prefix_cache_hits_total"),
                    chosen("vllm:external_prefix_cache_queries_total"),
                ),
                "fetched",
            ),
            most=1.0,
        ),
    ),
)

_LISTED = Row(
    "Block directory, fed by workers with KV events",
    (
        graph(
            "Blocks held",
            "In all tiers, by worker, as its feeder knows.",
            "short",
            Query(f"sum by (worker) ({chosen(f'{_DIRECTORY}holdings')})", _BY_WORKER),
        ),
        graph(
            "Lag",
            "How long the oldest news of a worker has waited. Half a second is gathered at once; "
            "more and more of it: Redis is away or too slow.",
            "s",
            Query(f"max by (worker) ({chosen(f'{_DIRECTORY}lag_seconds')})", _BY_WORKER),
            steps=(Step(5.0, "yellow"),),
        ),
        graph(
            "Batches of events",
            "lost: the engine had dropped them before they were asked for; what its worker holds "
            "is listed anew from then on.",
            "ops",
            Query(rate(chosen(f"{_DIRECTORY}batches_total"), "outcome"), "{{outcome}}"),
        ),
        graph(
            "Not as it should be",
            "errors: Redis could not be told. rebuilds: all was told anew, as it is once when a "
            "worker starts. refused: blocks beyond spec.observability.directoryHoldings.",
            "ops",
            Query(rate(chosen(f"{_DIRECTORY}errors_total")), "errors"),
            Query(rate(chosen(f"{_DIRECTORY}rebuilds_total")), "rebuilds"),
            Query(rate(chosen(f"{_DIRECTORY}refused_blocks_total")), "refused"),
            steps=_ANY,
        ),
        graph(
            "Workers not wholly listed",
            "They may hold more than the directory knows, after a gap or for want of room.",
            "short",
            Query(f"sum({chosen(f'{_DIRECTORY}degraded')})", "workers"),
            steps=(Step(1.0, "yellow"),),
        ),
    ),
)

DASHBOARD = Dashboard(
    "twofold-workers",
    "Twofold / Workers and KV transfer",
    "The engines' own metrics, read from the addresses that the routers tell.",
    (_NOW, _ENGINES, _TRANSFERS, _LISTED),
)
