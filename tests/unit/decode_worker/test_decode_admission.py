import pytest

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role, WorkerId
from twofold_engine.roles import InFlight, load_policy
from twofold_engine.settings import WorkerSettings

SETTINGS = WorkerSettings(
    service="s",
    worker_id=WorkerId("d"),
    role=Role.DECODE,
    model="m",
    served_name="m",
    max_unprefilled=1,
    max_in_flight=2,
)


@pytest.mark.parametrize("role", [Role.DECODE, Role.BOTH])
def test_a_worker_that_decodes_refuses_when_its_batch_is_full(role: Role) -> None:
    admit = load_policy(role).admit

    assert admit(InFlight(1, 1), SETTINGS) is None
    assert admit(InFlight(2, 0), SETTINGS) is Fault.DECODE_BUSY
