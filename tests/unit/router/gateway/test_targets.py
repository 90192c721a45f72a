"""Where Prometheus finds the workers."""

import msgspec
import pytest

from twofold_cluster.identity import Role
from twofold_router.gateway.targets import targets
from twofold_router.testing.workers import make_worker

WORKER = msgspec.structs.replace(
    make_worker("p1", Role.PREFILL), address="http://10.0.0.7:4711", revision="r1"
)
ITSELF = {"worker": "p1", "role": "prefill", "revision": "r1"}


@pytest.mark.parametrize(
    ("service", "labels"),
    [
        ("local", {"service": "local"}),
        ("team.qwen", {"namespace": "team", "service": "qwen"}),
        ("team.qwen.v2", {"namespace": "team", "service": "qwen.v2"}),
    ],
)
def test_a_target_has_the_labels_that_the_dashboards_select_by(
    service: str, labels: dict[str, str]
) -> None:
    found = targets([msgspec.structs.replace(WORKER, service=service)])

    assert found == [{"targets": ["10.0.0.7:4711"], "labels": {**labels, **ITSELF}}]


def test_the_order_does_not_change_with_the_workers() -> None:
    other = make_worker("d1", Role.DECODE)

    assert targets([WORKER, other]) == targets([other, WORKER])
