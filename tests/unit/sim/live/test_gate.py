from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role
from twofold_sim.live.gate import NO_LIMITS, Gate, GateLimits


def test_without_limits_everything_is_let_in() -> None:
    gate = Gate(NO_LIMITS)
    for _ in range(1000):
        gate.enter()

    assert gate.why_not(Role.PREFILL) is None
    assert gate.why_not(Role.DECODE) is None


def test_a_prefill_engine_counts_those_without_a_first_token() -> None:
    gate = Gate(GateLimits(max_unprefilled=1, max_in_flight=1))
    gate.enter()

    assert gate.why_not(Role.PREFILL) is Fault.PREFILL_BUSY
    gate.prefilled()
    assert gate.why_not(Role.PREFILL) is None


def test_an_engine_that_decodes_counts_all_it_has() -> None:
    gate = Gate(GateLimits(max_unprefilled=1, max_in_flight=1))
    gate.enter()
    gate.prefilled()

    assert gate.why_not(Role.DECODE) is gate.why_not(Role.BOTH) is Fault.DECODE_BUSY
    gate.leave(was_prefilled=True)
    assert gate.why_not(Role.DECODE) is None
    assert gate.unprefilled_count == 0


def test_one_that_leaves_early_is_counted_no_more() -> None:
    gate = Gate(GateLimits(max_unprefilled=1))
    gate.enter()
    gate.leave(was_prefilled=False)

    assert (gate.request_count, gate.unprefilled_count) == (0, 0)


def test_a_closed_gate_lets_nobody_in() -> None:
    gate = Gate(NO_LIMITS)
    gate.is_closed = True

    assert gate.why_not(Role.BOTH) is Fault.DRAINING
