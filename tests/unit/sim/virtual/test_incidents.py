"""How incidents are told, and which can happen."""

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_sim.virtual import InvalidIncidentError
from twofold_sim.virtual.incidents import Incident, check_incidents, parse_incident, role_of

P0 = WorkerId("p0")
ROLES = list(Role)


def test_an_incident_is_a_kind_a_worker_and_a_moment() -> None:
    assert parse_incident("die:p3@120.5") == Incident(120.5, "die", WorkerId("p3"))


@pytest.mark.parametrize(
    "text", ["", "die:p3", "die@120", "sleep:p3@120", "die:x3@120", "die:p3@-1", "die:p3@nan"]
)
def test_what_is_no_incident_is_named(text: str) -> None:
    with pytest.raises(InvalidIncidentError, match="like die:p3@120"):
        parse_incident(text)


def test_the_first_letter_of_a_worker_is_its_role() -> None:
    roles = [role_of(WorkerId(worker_id)) for worker_id in ("p0", "d12", "b3")]

    assert roles == [Role.PREFILL, Role.DECODE, Role.BOTH]


def test_whoever_is_there_cannot_join() -> None:
    with pytest.raises(InvalidIncidentError, match="p0 is there at 5 s already"):
        check_incidents([Incident(5.0, "join", P0)], [P0], ROLES)


@pytest.mark.parametrize("kind", ["leave", "die"])
def test_whoever_is_not_there_cannot_go(kind: str) -> None:
    with pytest.raises(InvalidIncidentError, match="p1 is not there at 5 s"):
        check_incidents([parse_incident(f"{kind}:p1@5")], [P0], ROLES)


def test_the_dead_can_join_and_the_leaving_can_die() -> None:
    told = ["leave:p0@1", "die:p0@2", "join:p0@3", "die:p0@4", "join:p0@5"]

    check_incidents([parse_incident(text) for text in told], [P0], ROLES)


def test_the_order_of_incidents_is_that_of_their_moments() -> None:
    check_incidents(
        [Incident(9.0, "die", P0), Incident(1.0, "die", P0), Incident(5.0, "join", P0)], [P0], ROLES
    )


def test_nobody_decodes_where_there_are_prefill_workers_alone() -> None:
    check_incidents([parse_incident("join:p1@5")], [P0], [Role.PREFILL])
    with pytest.raises(InvalidIncidentError, match="d0 is for decode, and this cluster for pref"):
        check_incidents([parse_incident("join:d0@5")], [P0], [Role.PREFILL])


def test_nobody_dies_twice() -> None:
    with pytest.raises(InvalidIncidentError):
        check_incidents([Incident(1.0, "die", P0), Incident(2.0, "die", P0)], [P0], ROLES)
