"""How one revision takes over from others."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from twofold_cluster.identity import Role
from twofold_operator.planning.observed import Phase, SeenAdapter, SeenWorker
from twofold_operator.planning.rollout import Aim, Stand, aims

DESIRED = {Role.PREFILL: 2, Role.DECODE: 2}
WHOLE = DESIRED
ONE = {Role.PREFILL: 1, Role.DECODE: 1}


def stand(
    revision: str,
    prefill: str = "",
    decode: str = "",
    *,
    was_active: bool = True,
    has_served: bool = True,
    is_known: bool = True,
    guess: Mapping[Role, int] | None = None,
) -> Stand:
    """A letter for each worker: ready, standby (ready as well), pending, draining, x for dead."""
    phases = {
        "r": Phase.READY,
        "s": Phase.READY,
        "p": Phase.PENDING,
        "d": Phase.DRAINING,
        "x": Phase.DEAD,
    }
    workers = tuple(
        SeenWorker(f"{role}-{n}", role, revision, phases[letter], standby=letter == "s")
        for role, letters in ((Role.PREFILL, prefill), (Role.DECODE, decode))
        for n, letter in enumerate(letters)
    )
    return Stand(revision, workers, is_known, was_active, has_served, guess or {})


def fresh(prefill: str = "", decode: str = "") -> Stand:
    return stand("new", prefill, decode, was_active=False, has_served=False)


def test_the_first_revision_takes_requests_from_the_start() -> None:
    assert aims(fresh(), [], DESIRED, WHOLE) == {"new": Aim(2, 2)}


@pytest.mark.parametrize(
    ("new", "old", "surge", "new_aim", "old_aim"),
    [
        # Comes up on standby, beside the old.
        (fresh(), stand("old", "rr", "rr"), WHOLE, Aim(2, 2, True), Aim(2, 2)),
        (fresh(), stand("old", "rr", "rr"), ONE, Aim(1, 1, True), Aim(2, 2)),
        (fresh("ss", "sp"), stand("old", "rr", "rr"), WHOLE, Aim(2, 2, True), Aim(2, 2)),
        # All that may come up are ready: traffic moves.
        (fresh("ss", "ss"), stand("old", "rr", "rr"), WHOLE, Aim(2, 2), Aim(2, 2)),
        (fresh("s", "s"), stand("old", "rr", "rr"), ONE, Aim(1, 1), Aim(2, 2)),
        # As the new becomes more, the old becomes fewer.
        (stand("new", "r", "r"), stand("old", "rr", "rr"), ONE, Aim(1, 1), Aim(1, 1)),
        (stand("new", "r", "r"), stand("old", "rd", "rd"), ONE, Aim(1, 1), Aim(1, 1)),
        (stand("new", "r", "r"), stand("old", "r", "r"), ONE, Aim(2, 2), Aim(1, 1)),
        # The old keeps a whole pair until the new has everything.
        (stand("new", "rr", "rp"), stand("old", "r", "r"), ONE, Aim(2, 2), Aim(1, 1)),
    ],
)
def test_a_step_follows_from_the_workers_that_are_there(
    new: Stand, old: Stand, surge: dict[Role, int], new_aim: Aim, old_aim: Aim
) -> None:
    assert aims(new, [old], DESIRED, surge) == {"new": new_aim, "old": old_aim}


@pytest.mark.parametrize(
    ("old", "aim"),
    [
        (stand("old", "rr", "rr"), Aim(2, 2, standby=True, is_leaving=True)),
        (stand("old", "rs", "ss"), Aim(2, 2, standby=True, is_leaving=True)),
        (stand("old", "ss", "ss"), Aim(0, 2, standby=True, is_leaving=True)),
        (stand("old", "d", "ss"), Aim(0, 2, standby=True, is_leaving=True)),
        (stand("old", "", "ss"), Aim(0, 0, is_leaving=True)),
    ],
)
def test_the_old_one_leaves_with_its_decode_workers_last(old: Stand, aim: Aim) -> None:
    new = stand("new", "rr", "rr")

    assert aims(new, [old], DESIRED, WHOLE)["old"] == aim


def test_one_that_no_router_follows_leaves_without_going_on_standby() -> None:
    new, old = stand("new", "rr", "rr"), stand("old", "rr", "rr")

    found = aims(new, [old], DESIRED, WHOLE, unfollowed=("old",))

    assert found["old"] == Aim(0, 2, standby=True, is_leaving=True)


def test_a_revision_that_never_served_gives_its_places_back_at_once() -> None:
    failed = stand("failed", "pp", "pp", has_served=False)

    found = aims(fresh(), [failed, stand("old", "rr", "rr")], DESIRED, WHOLE)

    assert found["failed"].ends_now
    assert found["old"] == Aim(2, 2)


def test_going_back_makes_the_old_revision_active_without_waiting() -> None:
    new = stand("new", "ss", "ss", was_active=False, has_served=False)

    found = aims(stand("old", "rr", "rr"), [new], DESIRED, WHOLE)

    assert found["old"] == Aim(2, 2)
    assert found["new"].ends_now


def test_a_revision_on_standby_is_called_back_if_the_new_one_breaks() -> None:
    found = aims(stand("new", "rx", "rr"), [stand("old", "ss", "ss")], DESIRED, WHOLE)

    assert found["old"] == Aim(1, 1)


def test_a_revision_that_has_lost_a_role_is_not_called_back() -> None:
    found = aims(stand("new", "rx", "rr"), [stand("old", "d", "ss")], DESIRED, WHOLE)

    assert found["old"].is_leaving


def test_scaling_up_in_the_middle_scales_the_revision_that_serves() -> None:
    desired = {Role.PREFILL: 4, Role.DECODE: 2}

    found = aims(fresh("s", "p"), [stand("old", "rr", "rr")], desired, ONE)

    assert found["old"] == Aim(4, 2)


def test_scaling_down_in_the_middle_takes_nothing_from_the_new_revision_that_serves() -> None:
    desired = {Role.PREFILL: 1, Role.DECODE: 1}

    found = aims(stand("new", "rr", "rr"), [stand("old", "rr", "rr")], desired, ONE)

    assert found["new"] == Aim(1, 1)
    assert found["old"].is_leaving


def test_an_old_revision_that_does_not_answer_is_taken_to_serve() -> None:
    old = stand("old", is_known=False, guess={Role.PREFILL: 2, Role.DECODE: 2})

    found = aims(fresh("sp", "ss"), [old], DESIRED, WHOLE)

    assert found["new"].standby
    assert found["old"] == Aim(2, 2)


def test_nobody_waits_for_a_revision_whose_workers_are_dead() -> None:
    found = aims(fresh("sp", "ss"), [stand("old", "xx", "rr")], DESIRED, WHOLE)

    assert not found["new"].standby


def test_a_role_that_is_scaled_to_zero_holds_nothing_up() -> None:
    desired = {Role.PREFILL: 0, Role.DECODE: 2}

    found = aims(fresh("", "ss"), [stand("old", "", "rr")], desired, WHOLE)

    assert found["new"] == Aim(0, 2)


@pytest.mark.parametrize(
    ("on_workers", "standby"),
    [
        ((), True),
        ((SeenAdapter("sql", "", loaded=False),), True),
        ((SeenAdapter("sql", "", loaded=True),), False),
        # One that cannot be loaded holds nothing up.
        ((SeenAdapter("sql", "", loaded=False, message="no such file"),), False),
    ],
)
def test_a_new_revision_waits_for_its_adapters(
    on_workers: tuple[SeenAdapter, ...], standby: bool
) -> None:
    new = fresh("ss", "ss")
    workers = tuple(replace(worker, adapters=on_workers) for worker in new.workers)
    new = replace(new, workers=workers, adapters=frozenset({"sql"}))

    assert aims(new, [stand("old", "rr", "rr")], DESIRED, WHOLE)["new"].standby is standby
