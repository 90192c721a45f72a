"""Who has to go when the queue is full."""

from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_router.placement.interface import PlacementRequest
from twofold_router.placement.queue_bound import QueueBound
from twofold_router.placement.testing import make_request


def request(name: str, tenant: str = "", priority: int = 0) -> PlacementRequest:
    return make_request(name, tenant=tenant, priority=priority)


def test_nobody_goes_while_there_are_not_too_many() -> None:
    bound = QueueBound(2)
    for name in "ab":
        bound.enter(request(name))
        assert bound.victim() is None

    bound.enter(request("c"))

    assert bound.victim() == "c"


def test_the_least_important_goes_first() -> None:
    bound = QueueBound(2)
    for name, priority in (("a", 0), ("b", -1), ("c", 1)):
        bound.enter(request(name, priority=priority))

    assert bound.victim() == "b"


def test_of_equally_important_the_last_of_the_biggest_tenant_goes() -> None:
    bound = QueueBound(4)
    for name, tenant in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("c1", "c")):
        bound.enter(request(name, tenant))

    assert bound.victim() == "a3"


def test_of_equal_tenants_the_newcomer_goes() -> None:
    bound = QueueBound(1)
    bound.enter(request("here", "a"))
    bound.enter(request("coming", "b"))

    assert bound.victim() == "coming"


REQUESTS = [
    request(f"{tenant}{priority}{number}", tenant, priority)
    for tenant in "abc"
    for priority in (0, 1)
    for number in range(3)
]


@given(st.lists(st.sampled_from(REQUESTS)), st.integers(0, 5))
@settings(max_examples=300)
def test_it_names_a_last_one_of_a_biggest_tenant_whoever_came_and_went(
    steps: list[PlacementRequest], max_queued: int
) -> None:
    bound = QueueBound(max_queued)
    inside: dict[str, PlacementRequest] = {}
    for each in steps:
        if inside.pop(each.request_id, None) is None:
            bound.enter(each)
            inside[each.request_id] = each
        else:
            bound.leave(each)
            bound.leave(each)  # nothing happens

        assert len(bound) == len(inside)
        victim = bound.victim()
        assert (victim is None) == (len(inside) <= max_queued)
        if victim is not None:
            least = min(other.priority for other in inside.values())
            tenants: dict[str, list[str]] = {}
            for other in inside.values():
                if other.priority == least:
                    tenants.setdefault(other.tenant, []).append(other.request_id)
            most = max(map(len, tenants.values()))
            assert victim in {names[-1] for names in tenants.values() if len(names) == most}
    for left in inside.values():
        bound.leave(left)
    assert bound._queued == {}
