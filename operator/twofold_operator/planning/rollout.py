"""How one revision takes over from others: how many workers each shall have now.

A state machine without a state: every step follows from the workers that are there.

1. The new revision comes up on standby, as far as the surge allows.
2. All that may come up are ready: it takes requests. So "traffic moves".
3. As its workers are ready, those of the old revision become fewer.
4. It has all of them: the old revision goes on standby; with another Redis, only when no router
   is left that sees nobody else.
5. The routers know, or there is none that could ask it: its prefill workers drain. Nobody but its
   decode workers can read the blocks that these hold, so they stay.
6. No prefill worker is left: its decode workers drain, and the revision goes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from twofold_cluster.identity import Role
from twofold_operator.planning.observed import Phase, SeenWorker

ROLES = (Role.PREFILL, Role.DECODE)

Counts = Mapping[Role, int]
"""Workers of each of ROLES."""


@dataclass(frozen=True, slots=True)
class Stand:
    """One revision as it is."""

    revision: str
    workers: tuple[SeenWorker, ...] = ()
    is_known: bool = True
    """False while its pool manager does not answer: then the workers are a guess."""
    was_active: bool = False
    """It has been told to take requests."""
    has_served: bool = False
    """It once had what serves a request."""
    guess: Counts = field(default_factory=dict)
    """Workers that there may be while it is not known."""
    adapters: frozenset[str] = frozenset()
    """LoRA adapters that clients ask for by these names."""

    def present(self, role: Role) -> int:
        """Count workers in whatever phase: each holds its place."""
        return self._count(role) if self.is_known else self.guess.get(role, 0)

    def staying(self, role: Role) -> int:
        """Count workers that do not leave."""
        if not self.is_known:
            return self.guess.get(role, 0)
        return sum(w.role is role and w.phase is not Phase.DRAINING for w in self.workers)

    def ready(self, role: Role) -> int:
        return self._count(role, Phase.READY)

    def equipped(self, role: Role) -> int:
        """Count ready workers that have tried to load every adapter. One that cannot be loaded
        holds nothing up."""
        return sum(
            w.role is role
            and w.phase is Phase.READY
            and self.adapters <= {a.name for a in w.adapters if a.loaded or a.message}
            for w in self.workers
        )

    def active(self, role: Role) -> int:
        """Count workers that take requests."""
        return sum(
            w.role is role and w.phase is Phase.READY and not w.standby for w in self.workers
        )

    def can_serve(self, desired: Counts) -> bool:
        """Tell whether it has a worker of each role that is wanted, as far as is known. One on
        standby counts: it can be called back."""
        if not self.is_known:
            return self.has_served
        return all(self.ready(role) > 0 for role in needed(desired))

    def _count(self, role: Role, phase: Phase | None = None) -> int:
        return sum(w.role is role and phase in (None, w.phase) for w in self.workers)


@dataclass(frozen=True, slots=True)
class Aim:
    """What one revision shall be."""

    prefill: int = 0
    decode: int = 0
    standby: bool = False
    is_leaving: bool = False
    """It ends as soon as it has no workers."""
    ends_now: bool = False
    """It ends whatever it has: nobody was ever served by it."""

    def of(self, role: Role) -> int:
        return self.prefill if role is Role.PREFILL else self.decode


def needed(desired: Counts) -> list[Role]:
    return [role for role in ROLES if desired[role] > 0]


def is_complete(target: Stand, desired: Counts) -> bool:
    """Tell whether *target* alone serves what is desired."""
    return target.was_active and all(target.active(role) >= desired[role] for role in ROLES)


def aims(
    target: Stand,
    olds: Sequence[Stand],
    desired: Counts,
    surge: Counts,
    held: Collection[str] = (),
    unfollowed: Collection[str] = (),
) -> dict[str, Aim]:
    """Return what *target* and each of *olds* shall be, so that *target* takes over.

    Revisions that are *held* keep a pair of workers even after that, until they are not. Those that
    are *unfollowed* by routers leave without going on standby: where their Redis has gone they
    cannot tell it anybody.

    No role has more workers than desired and surge together, and there is a surge of at least 1.
    """
    surge = {role: max(1, surge[role]) for role in ROLES}
    living = [old for old in olds if old.has_served]
    found = {old.revision: Aim(is_leaving=True, ends_now=True) for old in olds}
    serving = sorted(
        (old for old in living if old.can_serve(desired)),
        key=lambda old: min((old.staying(role) for role in needed(desired)), default=0),
        reverse=True,
    )
    wanted = _wanted(target, olds, serving, desired, surge)
    active = target.was_active or not serving or _is_ready(target, wanted, desired)
    if active and is_complete(target, desired):
        serving = [old for old in serving if old.revision in held]
    kept = _kept(target, serving, desired, surge, active, held)
    for old in living:
        counts = kept.get(old.revision)
        if counts is not None and all(counts[role] > 0 for role in needed(desired)):
            found[old.revision] = Aim(counts[Role.PREFILL], counts[Role.DECODE])
        else:
            found[old.revision] = _leaving(old, is_followed=old.revision not in unfollowed)
    found[target.revision] = Aim(wanted[Role.PREFILL], wanted[Role.DECODE], standby=not active)
    return found


def _wanted(
    target: Stand, olds: Sequence[Stand], serving: Sequence[Stand], desired: Counts, surge: Counts
) -> dict[Role, int]:
    """Return how many workers *target* may have beside what is there."""
    wanted = {}
    for role in ROLES:
        others = sum(old.present(role) for old in olds)
        if serving and not target.was_active:
            others = max(others, desired[role])
        room = max(0, desired[role] + surge[role] - others)
        held = target.staying(role) if target.was_active else 0
        wanted[role] = min(desired[role], max(room, held))
    return wanted


def _is_ready(target: Stand, wanted: Counts, desired: Counts) -> bool:
    return all(target.equipped(role) >= wanted[role] >= 1 for role in needed(desired))


def _kept(
    target: Stand,
    serving: Sequence[Stand],
    desired: Counts,
    surge: Counts,
    active: bool,
    held: Collection[str],
) -> dict[str, dict[Role, int]]:
    """Return how many workers stay of each revision that *target* takes over from.

    The first of them keeps a whole pair: it is no use without. So do those that are held, as many
    as leave *target* its places.
    """
    if not serving:
        return {}
    pairs = [serving[0].revision, *(o.revision for o in serving[1:] if o.revision in held)]
    pairs = pairs[: min(surge[role] for role in ROLES)]
    kept: dict[str, dict[Role, int]] = {old.revision: {} for old in serving}
    for role in ROLES:
        least = 1 if desired[role] else 0
        taken = target.active(role) if active else 0
        left = desired[role] - taken
        for old in serving:
            stays = min(old.staying(role), max(left, least if old.revision in pairs else 0))
            kept[old.revision][role] = stays
            left = max(0, left - stays)
        if not active:  # it is scaled as if nothing else were going on
            kept[serving[0].revision][role] += left
    return kept


def _leaving(old: Stand, *, is_followed: bool) -> Aim:
    if old.is_known and not old.present(Role.PREFILL):
        return Aim(is_leaving=True)
    held = {role: old.ready(role) for role in ROLES}
    told = not is_followed or all(old.active(role) == 0 for role in ROLES)
    prefill = 0 if told else held[Role.PREFILL]
    return Aim(prefill, held[Role.DECODE], standby=True, is_leaving=True)
