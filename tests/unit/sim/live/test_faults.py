import msgspec
import pytest

from twofold_sim.live.faults import FaultOrder, Faults, InvalidFaultError, parse_fault


def test_without_an_order_nothing_strikes() -> None:
    faults = Faults((), seed=0)

    assert faults.strike("refuse") is None
    assert faults.slowness == 1.0


def test_a_fault_strikes_as_often_as_was_ordered_and_no_other_does() -> None:
    faults = Faults([FaultOrder(kind="cut", count=2, after_chunks=3)], seed=0)

    struck = [faults.strike("cut") for _ in range(3)]

    assert [order.after_chunks if order else None for order in struck] == [3, 3, None]
    assert faults.strike("hang") is None
    assert [state.struck for state in faults.snapshot()] == [2]


def test_a_fault_by_chance_strikes_that_often_and_the_same_for_a_seed() -> None:
    orders = [FaultOrder(kind="refuse", probability=0.25)]
    one, same, other = Faults(orders, 1), Faults(orders, 1), Faults(orders, 2)

    runs = [[each.strike("refuse") is not None for _ in range(1000)] for each in (one, same, other)]

    assert runs[0] == runs[1] != runs[2]
    assert 200 < sum(runs[0]) < 300


def test_the_next_of_two_orders_strikes_when_the_first_is_used_up() -> None:
    orders = [FaultOrder(kind="refuse", count=1, status=500), FaultOrder(kind="refuse", count=1)]
    faults = Faults(orders, seed=0)

    struck = [faults.strike("refuse") for _ in range(3)]

    assert [order.status if order else None for order in struck] == [500, 503, None]


def test_slowness_lasts_while_it_is_ordered() -> None:
    slow = [FaultOrder(kind="slow", factor=2.0), FaultOrder(kind="slow", factor=1.5)]
    faults = Faults(slow, seed=0)

    assert faults.slowness == 3.0
    faults.replace(())
    assert faults.slowness == 1.0


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_several_slow_faults_are_bounded_together(factor: float) -> None:
    assert Faults([FaultOrder(kind="slow", factor=factor)] * 100, seed=0).slowness == factor


def test_a_flag_orders_a_fault() -> None:
    expected = FaultOrder(kind="cut", after_chunks=3, count=1, probability=0.5)

    assert parse_fault("cut:after-chunks=3,count=1,probability=0.5") == expected
    assert parse_fault("hang") == FaultOrder(kind="hang")


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("explode", "the kinds are refuse"),
        ("cut:after_chunks", "is not NAME=VALUE"),
        ("cut:count=0", "count must be at least 1"),
        ("cut:probability=1.5", "probability must be above 0"),
        ("refuse:status=200", "status must be 400 to 599"),
        ("slow:factor=0", "factor must be above 0"),
        ("slow:factor=1e308", "factor must be above 0, 1e-06 to 1e\\+06, not 1e\\+308"),
        ("slow:factor=nan", "factor must be above 0"),
        ("slow:count=1", "slow has no count"),
        ("cut:colour=red", "colour"),
    ],
)
def test_a_flag_that_orders_nothing_is_named(flag: str, named: str) -> None:
    with pytest.raises(InvalidFaultError, match=named):
        parse_fault(flag)


def test_an_order_from_json_is_checked_too() -> None:
    with pytest.raises(msgspec.ValidationError, match="count must be"):
        msgspec.json.decode(b'{"kind":"hang","count":-1}', type=FaultOrder)
