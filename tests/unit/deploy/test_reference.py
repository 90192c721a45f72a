"""A dashboard names only what somebody emits."""

import importlib.util
import re
from pathlib import Path

import pytest
from deploy.dashboards.reference import (
    connector_metrics,
    engine_metrics,
    feed_metrics,
    named,
    operator_metrics,
    router_metrics_described,
)
from deploy.dashboards.writing import DASHBOARDS

NAMED = named(DASHBOARDS)
DESCRIBED = [
    *router_metrics_described(),
    *operator_metrics(),
    *engine_metrics(),
    *connector_metrics(),
    *feed_metrics(),
]
VLLM = importlib.util.find_spec("vllm")
SOURCES = ("v1/metrics/loggers.py", "distributed/kv_transfer/kv_connector/v1/nixl/stats.py")


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_metric_that_is_named_is_one_that_is_emitted(name: str) -> None:
    assert name in {each.name for each in DESCRIBED}


def test_queries_name_metrics_of_all() -> None:
    beginnings = {re.split("[_:]", name)[1] for name in NAMED if name.startswith("twofold_")}

    assert beginnings == {"router", "operator", "kv"}
    assert sum(name.startswith("vllm:") for name in NAMED) > 10


@pytest.mark.skipif(VLLM is None, reason="vLLM, whose metrics these are, is not installed")
def test_vllm_has_the_metrics_that_are_named() -> None:
    assert VLLM is not None
    assert VLLM.origin is not None
    package = Path(VLLM.origin).parent
    text = "".join((package / source).read_text() for source in SOURCES)
    emitted = set(re.findall(r'name="(vllm:\w+)"', text))

    wanted = {name.removesuffix("_total") for name in NAMED if name.startswith("vllm:")}
    assert wanted - emitted == set()


def test_every_metric_says_what_it_means() -> None:
    assert [each.name for each in DESCRIBED if not each.meaning] == []
    assert len({each.name for each in DESCRIBED}) == len(DESCRIBED)
