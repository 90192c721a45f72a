"""One worker of a pool, over all its incarnations."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_engine.events import Step
from twofold_engine.pools.adapting import AdapterState
from twofold_engine.pools.handles import Description, Handle
from twofold_engine.pools.planning import Observed, Phase, restart_delay_seconds
from twofold_engine.pools.wanting import Pool
from twofold_engine.supervising import ProcessState

STABLE_AFTER_SECONDS = 300.0
"""One that was ready for this long starts again without the delay of earlier failures."""


@dataclass(slots=True)
class Member:
    """Mutable; only the pool manager's loop changes it. While ``busy`` is set, an action on the
    worker is under way and the plan leaves it alone; ``adapting`` changes its adapters."""

    worker_id: WorkerId
    pool: Pool
    incarnation: Incarnation
    since: float
    phase: Phase = Phase.PENDING
    message: str = "waiting for a place"
    handle: Handle | None = None
    process: ProcessState = field(default_factory=ProcessState)
    failure_count: int = 0
    restart_count: int = 0
    restart_at: float = 0.0
    answered_at: float = 0.0
    node: str = ""
    """The name of its machine; empty until its actor has started there."""
    standby: bool = False
    """What the routers were told of it."""
    adapters: Mapping[str, AdapterState] = field(default_factory=dict)
    """By name; replaced at every change."""
    busy: asyncio.Task[None] | None = None
    adapting: asyncio.Task[None] | None = None

    @property
    def role(self) -> Role:
        return self.pool.role

    def observed(self) -> Observed:
        return Observed(
            self.worker_id,
            self.role,
            self.pool.revision,
            self.phase,
            self.pool.build,
            standby=self.standby,
            restart_at=self.restart_at,
        )

    def enter(self, phase: Phase, message: str, now: float) -> None:
        if phase is not self.phase:
            self.phase = phase
            self.since = now
        self.message = message

    def see(self, process: ProcessState, now: float) -> None:
        """Take in what the worker's process says of itself."""
        self.process = process
        self.answered_at = now
        if self.phase is Phase.DRAINING:
            return
        if process.ended:
            self.die(process.message, now)
        elif process.step is Step.READY:
            self.enter(Phase.READY, "ready", now)
        else:
            self.enter(Phase.STARTING, process.message, now)

    def die(self, message: str, now: float) -> None:
        """Plan the next incarnation: later after each failure in a row."""
        if self.phase is Phase.READY and now - self.since > STABLE_AFTER_SECONDS:
            self.failure_count = 0
        self.failure_count += 1
        self.restart_at = now + restart_delay_seconds(self.failure_count)
        self.process = ProcessState(ended=True)
        self.adapters = {}
        self.enter(Phase.DEAD, message, now)


def adopted(description: Description, handle: Handle, now: float) -> Member:
    """Return a worker of an earlier manager as that one knew it, but for its failures.

    One whose process has ended is taken for one that starts: its end is seen when it is looked at.
    """
    member = Member(
        description.worker_id,
        replace(description.pool, role=description.role),
        description.incarnation,
        since=now,
        handle=handle,
        standby=description.standby,
        adapters={
            name: AdapterState(source, loaded=True) for name, source in description.adapters.items()
        },
    )
    if description.started:
        member.node = description.node
        member.answered_at = now
        member.enter(Phase.STARTING, description.process.message, now)
    if description.started and not description.process.ended:
        member.see(description.process, now)
    return member
