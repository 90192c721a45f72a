"""What goes wrong, or changes, while a cluster serves."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

from twofold_cluster.identity import Role, WorkerId
from twofold_sim.virtual.errors import InvalidIncidentError

_ROLES = {"p": Role.PREFILL, "d": Role.DECODE, "b": Role.BOTH}
_FORM = re.compile(r"(join|leave|die):([pdb]\d+)@(\d+(?:\.\d+)?)")


class Incident(msgspec.Struct, frozen=True):
    """A worker joins, leaves in peace (what it has it ends), or dies."""

    at: float
    """Seconds from the beginning."""
    kind: Literal["join", "leave", "die"]
    worker_id: WorkerId


def role_of(worker_id: WorkerId) -> Role:
    """Return the role of a worker by the first letter of its id: p, d or b."""
    return _ROLES[worker_id[0]]


def parse_incident(text: str) -> Incident:
    """Read ``die:p3@120``: the prefill worker p3 dies after 120 seconds.

    Raises:
        InvalidIncidentError: it is not of this form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidIncidentError(
            f"{text!r} is no incident: give join, leave or die, a worker (p0, d0 or b0 on) "
            "and the seconds, like die:p3@120"
        )
    kind, worker_id, at = match.groups()
    # The pattern allows no other words.
    return msgspec.convert({"at": float(at), "kind": kind, "worker_id": worker_id}, type=Incident)


def check_incidents(
    incidents: Sequence[Incident], workers: Iterable[WorkerId], roles: Collection[Role]
) -> None:
    """Make sure that *incidents* can happen to *workers*, who are there at the beginning, in a
    cluster that has *roles*.

    Raises:
        InvalidIncidentError: somebody joins who is there, leaves or dies who is not, or has another
            role.
    """
    there = set(workers)
    leaving: set[WorkerId] = set()
    for incident in sorted(incidents, key=lambda incident: incident.at):
        worker_id = incident.worker_id
        role = role_of(worker_id)
        if role not in roles:
            known = ", ".join(roles)
            raise InvalidIncidentError(f"{worker_id} is for {role}, and this cluster for {known}")
        if incident.kind == "join":
            if worker_id in there:
                raise InvalidIncidentError(f"{worker_id} is there at {incident.at:g} s already")
            there.add(worker_id)
        elif worker_id in there:
            there.remove(worker_id)
        # Whoever leaves can die before it has left.
        elif incident.kind == "leave" or worker_id not in leaving:
            raise InvalidIncidentError(f"{worker_id} is not there at {incident.at:g} s")
        leaving.discard(worker_id)
        if incident.kind == "leave":
            leaving.add(worker_id)
