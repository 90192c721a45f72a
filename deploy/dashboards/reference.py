"""docs/metrics.md: every metric of our own, and those of the engines that are looked at here."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import cast

from deploy.dashboards.alerts import GROUPS
from deploy.dashboards.panels import Dashboard
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from twofold_kvtransfer import metric_names
from twofold_kvtransfer.directory import FeedSnapshot
from twofold_kvtransfer.directory import metrics as directory_metrics
from twofold_operator.cluster_api import ClusterApi
from twofold_operator.operating.metrics import OperatorMetrics
from twofold_operator.operating.running import Operator
from twofold_operator.settings import OperatorSettings
from twofold_router import metrics as router_metrics
from twofold_router.metrics import Metrics, RouterSnapshot
from twofold_router.placement import PlacementSnapshot
from twofold_router.processes import exposing
from twofold_router.processes.gathering import Gathered
from twofold_router.tallies import Tallies
from twofold_sim.engine_model import EngineCounts
from twofold_sim.live.metrics import EngineMetrics, Snapshot

_NAME = re.compile(r"(?<![:\w])(?:twofold_\w+|vllm:\w+|process_\w+)")
_PART = re.compile(r"_(?:bucket|sum|count)$")

_TITLE = """# Metrics

Made by `scripts/generate` of the code; what to do about an alert is in [runbooks.md](runbooks.md).

## Where they are

| who | at | labels set while scraping |
| --- | --- | --- |
| router | `/metrics` of its port (8000) | `namespace`, `service` |
| worker | `/metrics` of its address | `namespace`, `service`, `worker`, `role`, `revision` |
| operator | `/metrics` of `--metrics-port` | none |

Engines choose their ports, so that no selector of pods finds them. Every router tells their
addresses, with these labels, at `/metrics/targets`, as Prometheus' HTTP service discovery reads it.
Routers are found as pods: each counts what it served itself, and through the Service every scrape
would meet another one, so that counters jump back and forth.

```yaml
scrape_configs:
  - job_name: twofold-routers
    kubernetes_sd_configs: [{role: pod}]    # needs to get, list and watch pods
    relabel_configs:
      - action: keep
        source_labels:
          - __meta_kubernetes_pod_label_app_kubernetes_io_part_of
          - __meta_kubernetes_pod_label_app_kubernetes_io_component
          - __meta_kubernetes_pod_container_port_name
        regex: twofold;router;http
      - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
      - source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_instance]
        target_label: service
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - job_name: twofold-workers
    http_sd_configs:
      - url: http://qwen.team.svc/metrics/targets
```

With the Prometheus operator `spec.observability.serviceMonitor` has the operator make both, with
the same labels: a ServiceMonitor for the routers (or a PodMonitor, where there is only that) and a
ScrapeConfig for the workers. The chart's `networkPolicy.scrapingNamespaces` lets Prometheus in,
and of the workers' ports to 8001 alone, where those on the service's own Ray listen.

Outside Kubernetes the service is the router's `--service`, and there is no namespace.
The dashboards are in `deploy/grafana/`, the rules in `deploy/prometheus/`; the chart ships both
(`monitoring.dashboards.enabled`, `monitoring.prometheusRule.enabled`).
"""


@dataclass(frozen=True, slots=True, order=True)
class Described:
    """One metric as a query names it, without the suffixes of a histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def reference(dashboards: Iterable[Dashboard]) -> str:
    """Write the whole page."""
    engines = [each for each in engine_metrics() if each.name in named(dashboards)]
    engines = sorted((*engines, *connector_metrics(), *feed_metrics()))
    return "\n".join(
        (
            _TITLE,
            *_section("Router", router_metrics_described()),
            *_section("Operator", operator_metrics()),
            *_section("Workers, as far as dashboards and alerts look at them", engines),
        )
    )


def named(dashboards: Iterable[Dashboard]) -> set[str]:
    """Return the metrics that a dashboard or a rule names, without a histogram's suffixes."""
    panels = chain.from_iterable(dashboard.panels() for dashboard in dashboards)
    expressions = [query.expression for panel in panels for query in panel.queries]
    expressions += [rule.expression for group in GROUPS for rule in group.rules]
    return {_PART.sub("", name) for text in expressions for name in _NAME.findall(text)}


def router_metrics_described() -> list[Described]:
    nothing = PlacementSnapshot(queued=0, in_flight=0, moved=0, workers=())
    now = RouterSnapshot(Metrics().tallies, nothing, (), False, 0)
    gathered = Gathered(Tallies(), 0, 0, 0, 0)
    families = chain(router_metrics.families(now), exposing.families(gathered))
    return sorted(map(_described, families))


def operator_metrics() -> list[Described]:
    metrics = asyncio.run(_metrics_of_an_operator())
    labels = {
        told["_name"]: tuple(told["_labelnames"])
        for told in (vars(each) for each in vars(metrics).values() if hasattr(each, "_labelnames"))
    }
    return sorted(
        _described(family, labels.get(family.name, ())) for family in metrics.registry.collect()
    )


async def _metrics_of_an_operator() -> OperatorMetrics:
    """Make an operator for what it adds to its metrics; nothing of it runs."""
    metrics = OperatorMetrics()
    Operator(cast(OperatorSettings, None), cast(ClusterApi, None), metrics).health()
    return metrics


def engine_metrics() -> list[Described]:
    """Return those of the simulated engine, whose names are vLLM's."""
    counts = EngineCounts(0, 0, 0.0, 0, 0, 0, 0, 0)
    snapshot = Snapshot(counts, 0, 0, 0.0, 0, 0, 0, 0, 0, 0, 0, ())
    page = EngineMetrics("", lambda: snapshot).page().decode()
    return sorted(
        _described(family, tuple(name for name in _labels_of(family) if name != "le"))
        for family in text_string_to_metric_families(page)
    )


def connector_metrics() -> list[Described]:
    """Return those that an engine has besides when our own connector moves its blocks."""
    return [
        Described(
            metric.name,
            metric.kind,
            ("engine", "model_name", *([metric.label] if metric.label else [])),
            metric.meaning,
        )
        for metric in metric_names.ALL
    ]


def feed_metrics() -> list[Described]:
    """Return those that a worker with vLLM and KV events has of its feeding the directory."""
    nothing = FeedSnapshot(0, 0, 0, 0, 0, 0, False, 0.0)
    return [_described(each) for each in directory_metrics.families(nothing)]


def _labels_of(family: Metric) -> list[str]:
    return list(dict.fromkeys(name for sample in family.samples for name in sample.labels))


def _described(family: Metric, labels: tuple[str, ...] | None = None) -> Described:
    if labels is None:
        labels = tuple(vars(family)["_labelnames"])  # no sample need tell of them
    suffix = "_total" if family.type == "counter" else ""
    return Described(family.name + suffix, family.type, labels, family.documentation)


def _section(title: str, metrics: Iterable[Described]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| metric | type | labels | meaning |"
    yield "| --- | --- | --- | --- |"
    for each in metrics:
        labels = ", ".join(f"`{name}`" for name in each.labels)
        meaning = each.meaning.rstrip(".").replace("|", "\\|")
        yield f"| `{each.name}` | {each.kind} | {labels} | {meaning} |"
    yield ""
