from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role, WorkerId
from twofold_engine.roles import InFlight, load_policy
from twofold_engine.settings import WorkerSettings

SETTINGS = WorkerSettings(
    service="s",
    worker_id=WorkerId("p"),
    role=Role.PREFILL,
    model="m",
    served_name="m",
    max_unprefilled=2,
    max_in_flight=2,
)


def test_a_prefill_worker_refuses_at_its_bound_of_unprefilled_requests() -> None:
    admit = load_policy(Role.PREFILL).admit

    assert admit(InFlight(1, 1), SETTINGS) is None
    assert admit(InFlight(2, 2), SETTINGS) is Fault.PREFILL_BUSY


def test_answers_on_their_way_out_do_not_make_a_prefill_worker_busy() -> None:
    assert load_policy(Role.PREFILL).admit(InFlight(50, 1), SETTINGS) is None
