"""What earlier managers left on Ray: actors of workers, and the places that are kept for them.

All of it blocks, for as long as Ray's head may take to answer.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import ray
from ray.util import (
    get_placement_group,
    list_named_actors,
    placement_group_table,
    remove_placement_group,
)
from ray.util.placement_group import PlacementGroup

from twofold_engine.pools.actor_names import ActorName, parse

_REMOVED = "REMOVED"
_CREATED = "CREATED"


@dataclass(frozen=True, slots=True)
class Left:
    """One actor. Without a place it waits for one, and answers nobody."""

    name: ActorName
    actor: Any
    group: PlacementGroup | None
    has_place: bool


def find_left(service: str, worker_prefix: str) -> list[Left]:
    """Return the actors of the service's workers with this prefix, also those that wait.

    Raises:
        RayError: Ray's head does not answer.
    """
    names = [name for text in list_named_actors() if (name := parse(text)) is not None]
    states = _group_states(service, worker_prefix)
    found = []
    for name in names:
        if not name.is_of(service, worker_prefix):
            continue
        with contextlib.suppress(ValueError):  # it has ended meanwhile
            actor = ray.get_actor(str(name))
            state = states.get(name)
            group = None if state is None else get_placement_group(str(name))
            found.append(Left(name, actor, group, has_place=state in (None, _CREATED)))
    return found


def remove_groups(service: str, worker_prefix: str, kept: Collection[ActorName]) -> None:
    """Remove the placement groups of such workers that none of *kept* is in."""
    for name in _group_states(service, worker_prefix).keys() - set(kept):
        with contextlib.suppress(ValueError):  # it has gone, or is another namespace's
            remove_placement_group(get_placement_group(str(name)))


def _group_states(service: str, worker_prefix: str) -> dict[ActorName, str]:
    groups = placement_group_table().values()
    return {
        name: group["state"]
        for group in groups
        if group["state"] != _REMOVED
        and (name := parse(group["name"])) is not None
        and name.is_of(service, worker_prefix)
    }
