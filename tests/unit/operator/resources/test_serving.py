"""The words and defaults of the resources are the router's own."""

from typing import get_args, get_type_hints

import pytest

from twofold_operator.resources import Disaggregation, Gateway, Routing, Slo
from twofold_router.access import RequestClass
from twofold_router.placement import POLICIES
from twofold_router.settings import RouterSettings


def test_a_service_chooses_between_policies_that_the_router_has() -> None:
    assert set(get_args(get_type_hints(Routing)["policy"])) <= set(POLICIES)


def test_what_nobody_chose_is_what_the_router_does_by_itself() -> None:
    router = RouterSettings(service="a")

    assert Routing() == Routing(
        policy=router.policy,  # type: ignore[arg-type]
        block_tokens=router.block_tokens,
        max_queued=router.max_queued,
        max_unprefilled_tokens=router.max_unprefilled_tokens,
        prefix_pull=router.prefix_pull,
    )
    assert Disaggregation() == Disaggregation(
        enabled=router.disaggregate,
        min_uncached_tokens=router.min_uncached_tokens,
        on_no_prefill=router.on_no_prefill,
    )


def test_who_promises_nothing_promises_what_the_router_does() -> None:
    request_class = RequestClass("default")

    assert Slo().ttft_ms / 1000 == request_class.ttft_slo_seconds
    assert Slo().ttft_per_token_ms == request_class.ttft_slo_seconds_per_token
    assert Slo().on_late == request_class.on_late


@pytest.mark.parametrize(
    ("gateway", "is_scaled"),
    [(Gateway(replicas=3), False), (Gateway(min_replicas=2, max_replicas=2), True)],
)
def test_an_autoscaler_owns_the_routers_when_it_has_bounds(
    gateway: Gateway, is_scaled: bool
) -> None:
    assert gateway.is_scaled is is_scaled
