import msgspec

from twofold_cli.assessing import assess
from twofold_cli.settings import Settings
from twofold_cli.state import ClusterPhase, ComponentState, Phase, WorkerState
from twofold_cluster.identity import Role

SETTINGS = Settings(model="m", served_name="m", device="cpu", valkey_command=("valkey",))
PARTS = [ComponentState(name=name, phase=Phase.READY) for name in ("valkey", "pools", "router")]
PREFILL = WorkerState(worker_id="p", role=Role.PREFILL, phase=Phase.READY)
DECODE = WorkerState(worker_id="d", role=Role.DECODE, phase=Phase.READY)


def test_a_cluster_is_ready_when_all_of_it_is() -> None:
    verdict = assess(SETTINGS, PARTS, [PREFILL, DECODE], was_ready=False)

    assert verdict.phase is ClusterPhase.READY


def test_a_missing_worker_keeps_a_start_going() -> None:
    assert assess(SETTINGS, PARTS, [PREFILL], was_ready=False).phase is ClusterPhase.STARTING


def test_without_prefill_a_decode_worker_is_enough() -> None:
    settings = msgspec.structs.replace(SETTINGS, prefill=0)

    assert assess(settings, PARTS, [DECODE], was_ready=False).phase is ClusterPhase.READY


def test_what_is_lost_later_degrades_and_is_named() -> None:
    verdict = assess(SETTINGS, PARTS, [PREFILL], was_ready=True)

    assert verdict.phase is ClusterPhase.DEGRADED
    assert verdict.reason == "decode: 0 of 1 workers ready"


def test_the_third_death_of_an_engine_ends_a_start() -> None:
    dead = msgspec.structs.replace(DECODE, phase=Phase.DEAD, message="no memory", restarts=1)
    assert assess(SETTINGS, PARTS, [PREFILL, dead], was_ready=False).phase is ClusterPhase.STARTING
    dead = msgspec.structs.replace(dead, restarts=2)

    verdict = assess(SETTINGS, PARTS, [PREFILL, dead], was_ready=False)

    assert verdict.phase is ClusterPhase.FAILED
    assert verdict.reason == "d keeps dying: no memory"


def test_no_death_ends_a_cluster_that_was_ready() -> None:
    dead = msgspec.structs.replace(DECODE, phase=Phase.DEAD, restarts=9)

    assert assess(SETTINGS, PARTS, [dead], was_ready=True).phase is ClusterPhase.DEGRADED


def test_the_third_death_of_a_component_ends_a_start() -> None:
    dead = ComponentState(name="router", phase=Phase.DEAD, message="exit code 1", restarts=2)

    verdict = assess(SETTINGS, [*PARTS[:2], dead], [], was_ready=False)

    assert verdict.phase is ClusterPhase.FAILED
    assert "router keeps dying: exit code 1" in verdict.reason
