"""Where pool managers listen."""

from collections.abc import Iterable

from twofold_operator.planning.names import COMPONENT_LABEL, POOLS_PORT
from twofold_operator.planning.observed import Manifest

POOLS_COMPONENT = "pools"


def manager_addresses(children: Iterable[Manifest]) -> frozenset[str]:
    """Return the addresses of the pool managers to watch: one for each Service before one."""
    return frozenset(
        address_of(child["metadata"]["namespace"], child["metadata"]["name"])
        for child in children
        if child["kind"] == "Service"
        and child["metadata"].get("labels", {}).get(COMPONENT_LABEL) == POOLS_COMPONENT
    )


def address_of(namespace: str, pools_service: str) -> str:
    return f"{pools_service}.{namespace}.svc:{POOLS_PORT}"
