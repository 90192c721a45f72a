"""What is left to do for a service that is deleted.

Its workers finish what they have, then the Ray clusters go. The garbage collector takes everything
else.
"""

from operator import itemgetter

from twofold_operator.planning import names
from twofold_operator.planning.actions import (
    Action,
    LookAgain,
    RemoveFinalizer,
    TellPools,
)
from twofold_operator.planning.addresses import address_of
from twofold_operator.planning.conditions import Verdict, seconds
from twofold_operator.planning.making import deleted
from twofold_operator.planning.memory import Memory
from twofold_operator.planning.observed import Manifest, Observed, Told
from twofold_operator.planning.recalling import homes_of, revision_on
from twofold_operator.planning.reporting import bare_report
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.planning.verdicts import refusal
from twofold_operator.resources import ObjectMeta


def ending(
    observed: Observed, metadata: ObjectMeta, memory: Memory, settings: PlanSettings, now: float
) -> list[Action]:
    """Return what to do next for a service that has a deletion timestamp."""
    if names.FINALIZER not in metadata.finalizers:
        return []
    homes = homes_of(observed)
    if not homes:
        return [RemoveFinalizer()]
    left = seconds(metadata.deletion_timestamp or "") + settings.deletion_limit_seconds - now
    actions: list[Action] = []
    for home in homes:
        actions += _end(home, observed, memory, is_overdue=left <= 0)
    if left > 0:
        actions.append(LookAgain(left))
    return actions + _report(observed, homes, now)


def _end(home: Manifest, observed: Observed, memory: Memory, *, is_overdue: bool) -> list[Action]:
    metadata = home["metadata"]
    if metadata.get("deletionTimestamp"):
        return []
    delete = deleted(home)
    revision = revision_on(home)
    service = observed.service["metadata"]["name"]
    address = address_of(metadata["namespace"], names.pools_name(service, revision))
    manager = observed.managers.get(address)
    remembered = memory.revisions.get(revision)
    if is_overdue or (manager is None and not (remembered and remembered.has_served)):
        return [delete]
    if manager is None:
        return []
    actions: list[Action] = [] if manager.told == Told() else [TellPools(address, Told())]
    return actions if manager.workers or actions else [delete]


def _report(observed: Observed, homes: list[Manifest], now: float) -> list[Action]:
    message = "; ".join(["the service is deleted", *_waits_for(homes)])
    found = [Verdict("Ready", False, "Deleting", message)]
    if observed.refused:
        found.append(Verdict("Degraded", True, "ApplyRefused", refusal(observed)))
    return bare_report(observed, found, now)


def _waits_for(homes: list[Manifest]) -> list[str]:
    """Return what holds the service: workers, or others who have something to do at its end."""
    kept: list[str] = []
    working: list[str] = []
    for metadata in sorted((home["metadata"] for home in homes), key=itemgetter("name")):
        if not metadata.get("deletionTimestamp"):
            working.append(metadata["name"])
        elif finalizers := ", ".join(metadata.get("finalizers") or ()):
            kept.append(
                f"{metadata['name']} is deleted, and waits for whoever takes {finalizers} off it"
            )
        else:
            kept.append(f"{metadata['name']} is deleted, and goes")
    finish = f"workers finish what they have in {', '.join(working)}"
    return [finish, *kept] if working else kept
