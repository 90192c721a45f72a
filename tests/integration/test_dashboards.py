"""A real Prometheus runs every query of the dashboards and the alerts on a running Twofold."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from deploy.dashboards.alerts import ALERTS, GROUPS, Recording
from deploy.dashboards.writing import DASHBOARDS

from .conftest import Valkey
from .watched_cluster import HAS_VLLM, Prometheus, Series, watched_cluster

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "twofold.yaml"
WAIT_SECONDS = 90.0

QUERIES = {
    f"{dashboard.uid}/{panel.title}/{number}": query.expression
    for dashboard in DASHBOARDS
    for panel in dashboard.panels()
    for number, query in enumerate(panel.queries)
}
RECORDINGS = {
    rule.name: rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Recording)
}
SILENT = {
    name
    for name, query in QUERIES.items()
    if not HAS_VLLM
    and re.search(
        r"twofold_kv_(reads|leases|prefix_\w+|transfer_(bytes_per_second_bucket|block_bytes_total))\{",
        query,
    )
}
"""Of our own connector, which counts in vLLM's own metrics."""
FIRING = ("TwofoldSilentFallback", "TwofoldTransfersFail")
"""What the trouble of the watched cluster is enough for, without the time that it has to hold."""

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="no prometheus: scripts/install-prometheus installs it",
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run all queries once: what each says, and how Prometheus finds the rules."""
    return asyncio.run(_look(tmp_path_factory.mktemp("watched")))


async def _look(directory: Path) -> dict[str, Any]:
    valkey = Valkey(directory)
    valkey.start()
    try:
        async with watched_cluster(directory, valkey.url, RULES) as cluster:
            prometheus = cluster.prometheus
            told = {name: _chosen(query) for name, query in (QUERIES | RECORDINGS).items()}
            silent = {name: told.pop(name) for name in SILENT}
            alerts = {rule.name: rule.expression for rule in ALERTS}
            answers = await _answers(prometheus, told | {name: alerts[name] for name in FIRING})
            for name, query in silent.items():
                answers[name] = await prometheus.query(query)
            valkey.kill()
            stale = alerts["TwofoldMembershipStale"]
            answers |= await _answers(prometheus, {"TwofoldMembershipStale": stale})
            for name, expression in alerts.items():
                answers.setdefault(name, await prometheus.query(expression))
            return {"answers": answers, "rules": await prometheus.rules()}
    finally:
        valkey.close()


async def _answers(prometheus: Prometheus, queries: dict[str, str]) -> dict[str, Series]:
    """Ask *queries* until each says something, or the time is over."""
    answers: dict[str, Series] = {}
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + WAIT_SECONDS
    while True:
        for name, query in queries.items():
            if name not in answers or not answers[name].says_something:
                answers[name] = await prometheus.query(query)
        if all(series.says_something for series in answers.values()) or loop.time() > give_up_at:
            return answers
        await asyncio.sleep(1.0)


def _chosen(query: str) -> str:
    """Put in what Grafana would."""
    query = query.replace("$__rate_interval", "30s")
    return query.replace("$namespace", "team").replace("$service", "qwen")


@pytest.mark.parametrize("name", sorted(SILENT))
def test_a_panel_of_our_own_connector_can_be_evaluated(seen: dict[str, Any], name: str) -> None:
    assert seen["answers"][name].status == "success", seen["answers"][name]


@pytest.mark.parametrize("name", [name for name in (*QUERIES, *RECORDINGS) if name not in SILENT])
def test_a_panel_has_data(seen: dict[str, Any], name: str) -> None:
    series = seen["answers"][name]

    assert series.says_something, (QUERIES.get(name, name), series)


@pytest.mark.parametrize("name", [rule.name for rule in ALERTS])
def test_the_expression_of_an_alert_can_be_evaluated(seen: dict[str, Any], name: str) -> None:
    found = [rule for rule in seen["rules"] if rule["name"] == name]

    assert seen["answers"][name].status == "success", seen["answers"][name]
    assert [(rule["health"], rule.get("lastError")) for rule in found] == [("ok", None)]


@pytest.mark.parametrize("name", [*FIRING, "TwofoldMembershipStale"])
def test_an_alert_sees_the_trouble_that_it_is_for(seen: dict[str, Any], name: str) -> None:
    assert seen["answers"][name].says_something
