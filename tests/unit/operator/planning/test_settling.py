"""Whatever happens to a service, and however fast: it settles, and serves on the way."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twofold_cluster.identity import Role
from twofold_operator.planning.actions import Action, ApplyObject, DeleteObject, LookAgain
from twofold_operator.planning.observed import Phase
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.testing import World
from twofold_operator.resources import Rollout

COUNTS = st.integers(1, 4)
COUNTS_OR_NONE = st.integers(0, 2)
SURGES: st.SearchStrategy[int | str] = st.sampled_from([1, 2, "50%", "100%"])
REDISES = st.sampled_from(["redis://one:6379", "redis://two:6379"])
MODELS = st.sampled_from(["hf://acme/a", "hf://acme/b", "hf://acme/c"])


class Service(RuleBasedStateMachine):
    """A user, an operator and a cluster take turns in any order.

    No worker ends by itself here, so that whoever was served must be served all the time.
    """

    further: ClassVar[Mapping[str, Any]] = {}
    """More of the spec."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.spec_of("hf://acme/a", 2, 2, "100%"))
        self.was_ready = False
        self.is_calm = True
        self.is_crowded = False
        self.most = dict.fromkeys(ROLES, 0)
        """Workers that there may be, by what was wanted so far and has not settled yet."""
        self._allow()

    def spec_of(self, model: str, prefill: int, decode: int, surge: int | str) -> dict[str, Any]:
        return {
            "model": {"source": model},
            "prefill": {"replicas": prefill},
            "decode": {"replicas": decode},
            "rollout": {"maxSurge": surge},
            **self.further,
        }

    @rule(steps=st.integers(1, 6))
    def operate(self, steps: int) -> None:
        for _ in range(steps):
            self.take_turn()
            self.world.live()
            self.check()

    @rule()
    def plan_again_before_anything_happens(self) -> None:
        self.take_turn()

    @rule()
    def live_without_the_operator(self) -> None:
        self.world.live()

    @rule()
    def restart_the_operator(self) -> None:
        for manager in self.world.managers.values():
            manager.is_forgotten = True

    @precondition(lambda self: "deletionTimestamp" not in self.world.service["metadata"])
    @rule(model=MODELS, prefill=COUNTS, decode=COUNTS, surge=SURGES)
    def change(self, model: str, prefill: int, decode: int, surge: int | str) -> None:
        self.world.change(self.spec_of(model, prefill, decode, surge))
        self._allow()

    @precondition(lambda self: ("WorkerPool", "chat-prefill") in self.world.objects)
    @rule(role=st.sampled_from(ROLES), replicas=COUNTS)
    def scale(self, role: Role, replicas: int) -> None:
        if ("WorkerPool", f"chat-{role}") in self.world.objects:
            self.world.scale(role, replicas)
            self._allow()

    @rule()
    def lose_what_is_remembered(self) -> None:
        self.world.remove("ConfigMap", "chat-revisions")

    @rule(url=REDISES)
    def move_the_membership(self, url: str) -> None:
        self.world.settings = replace(self.world.settings, redis_url=url)

    @rule(data=st.data())
    def lose_the_way_to_a_manager(self, data: st.DataObject) -> None:
        ways = [key for key in sorted(self.world.objects) if key[1].endswith("-pools")]
        ways = [key for key in ways if key[0] == "Service"]
        if ways:
            self.world.remove(*data.draw(st.sampled_from(ways)))

    @rule()
    def settle(self) -> None:
        self.world.settle(200)
        assert self.world.plan() == []
        assert len({worker.revision for worker in self.world.workers}) == 1
        assert self.world.condition("Ready")["status"] == "True"
        for role in ROLES:
            desired = self.world.service["status"][str(role)]["desired"]
            assert len([w for w in self.world.workers if w.role is role]) == desired
            if "ray" not in self.further:
                pods = [n for k, n in self.world.objects if k == "Pod" and f"-{role}-" in n]
                assert len(pods) == desired
        self.is_crowded = False
        self.most = dict.fromkeys(ROLES, 0)
        self._allow()

    def take_turn(self) -> None:
        """Follow a plan; it deletes last, and what it says of the service is so."""
        is_seen = self.world.observed().managers.keys() == self.world.managers.keys()
        actions = self.world.plan()
        self.world.follow(actions)

        assert _deletes_last(actions), actions
        if is_seen and self.world.condition("Ready").get("status") == "True":
            decoding = [w for w in self.world.workers if w.role is Role.DECODE and not w.standby]
            assert any(w.phase is Phase.READY for w in decoding), self.world.workers

    @invariant()
    def check(self) -> None:
        ready = [w for w in self.world.workers if w.phase is Phase.READY]
        active = {(w.revision, w.role) for w in ready if not w.standby}
        revisions = {revision for revision, _ in active}
        serves = any({(r, role) for role in ROLES} <= active for r in revisions)
        self.was_ready |= serves
        assert serves or not self.was_ready or not self.is_calm, self.world.workers
        assert not self.world.killed or not self.is_calm
        # With three of them there may be no places for a pair in each Redis.
        self.is_crowded |= len({worker.revision for worker in self.world.workers}) > 2
        assert not self.world.blind_routers or self.is_crowded or not self.is_calm
        for role in ROLES:
            workers = [w for w in self.world.workers if w.role is role]
            assert len(workers) <= self.most[role] or not self.is_calm, (self.most, workers)

    @invariant()
    def check_readers(self) -> None:
        """Blocks at a prefill worker can be read by decode workers of its revision only."""
        for worker in self.world.workers:
            if self.is_calm and (worker.role, worker.phase) == (Role.PREFILL, Phase.DRAINING):
                assert any(
                    other.revision == worker.revision
                    and other.role is Role.DECODE
                    and other.phase is Phase.READY
                    for other in self.world.workers
                ), self.world.workers

    def _allow(self) -> None:
        """Raise what there may be to what is wanted now and its surge."""
        spec = self.world.service["spec"]
        rollout = Rollout(max_surge=spec["rollout"]["maxSurge"])
        for role in ROLES:
            pool = self.world.objects.get(("WorkerPool", f"chat-{role}"))
            scaled = pool["spec"]["replicas"] if pool else 0
            for wanted in (spec[str(role)]["replicas"], scaled):
                most = wanted + max(1, rollout.surge(wanted))
                self.most[role] = max(self.most[role], most)


class ServiceOnRay(Service):
    """On a Ray cluster that exists, where a revision is a Deployment."""

    further: ClassVar[Mapping[str, Any]] = {"ray": {"address": "ray.example:6379"}}


class StormyService(Service):
    """Workers die, managers fall silent, and people delete what is not theirs. It still settles."""

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.is_calm = False
        managers = [manager for manager in self.world.managers.values() if manager.workers]
        if managers:
            manager = data.draw(st.sampled_from(managers))
            manager.workers.pop(data.draw(st.integers(0, len(manager.workers) - 1)))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.is_calm = False
        if self.world.objects:
            self.world.remove(*data.draw(st.sampled_from(sorted(self.world.objects))))

    @rule()
    def silence(self) -> None:
        self.is_calm = False
        self.world.unreachable = set(self.world.managers)
        self.world.follow(self.world.plan())
        self.world.live()
        self.world.unreachable = set()


class TroubledService(Service):
    """Nobody may be wanted, specs be bad, revisions fail, time run out, and the service go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_calm = False
        self.is_bad = False

    @precondition(lambda self: "deletionTimestamp" not in self.world.service["metadata"])
    @rule(
        model=MODELS,
        prefill=COUNTS_OR_NONE,
        decode=COUNTS_OR_NONE,
        surge=SURGES,
        is_refused=st.booleans(),
    )
    def change(
        self, model: str, prefill: int, decode: int, surge: int | str, is_refused: bool = False
    ) -> None:
        spec = self.spec_of(model, prefill, decode, surge)
        spec["rollout"]["readyDeadlineSeconds"] = 30
        if is_refused:
            spec["model"]["engineArgs"] = ["--port=1"]
        self.is_bad = is_refused or (prefill > 0 and not decode)
        self.world.change(spec)

    @precondition(lambda self: ("WorkerPool", "chat-prefill") in self.world.objects)
    @rule(prefill=COUNTS_OR_NONE, decode=COUNTS_OR_NONE, turns=st.integers(0, 12))
    def scale_both(self, prefill: int, decode: int, turns: int) -> None:
        for role, replicas in ((Role.PREFILL, prefill), (Role.DECODE, decode)):
            if ("WorkerPool", f"chat-{role}") in self.world.objects:
                self.world.scale(role, replicas)
        self.operate(turns)

    @rule(data=st.data())
    def have_a_revision_fail(self, data: st.DataObject) -> None:
        revisions = sorted({worker.revision for worker in self.world.workers})
        if revisions:
            self.world.broken = {data.draw(st.sampled_from(revisions))}

    @rule(seconds=st.integers(30, 200))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    @precondition(lambda self: self.world.service["metadata"]["finalizers"])
    @rule()
    def delete(self) -> None:
        self.world.delete()

    @rule()
    def settle(self) -> None:
        self.world.broken = set()
        self.world.settle(200)
        deeds = [action for action in self.world.plan() if not isinstance(action, LookAgain)]
        assert deeds == []
        if "deletionTimestamp" in self.world.service["metadata"]:
            self.world.now += self.world.settings.deletion_limit_seconds  # of silent managers
            self.world.settle(200)
            assert self.world.is_gone
            return
        assert len({worker.revision for worker in self.world.workers}) <= 1
        for role in ROLES:
            # One who decodes nothing new stays for those who read of prefill workers.
            workers = [w for w in self.world.workers if w.role is role and not w.standby]
            if said := self.world.service["status"].get(str(role)):
                assert len(workers) == said["desired"]
        if self.is_bad:
            assert self.world.condition("Ready")["reason"] == "InvalidSpec"

    def teardown(self) -> None:
        self.settle()


def _deletes_last(actions: list[Action]) -> bool:
    kinds = [type(action) for action in actions]
    applied = kinds.index(ApplyObject) if ApplyObject in kinds else 0
    return DeleteObject not in kinds[: applied + kinds.count(ApplyObject)]


LIMITS = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    # A loaded machine is no fault.
    suppress_health_check=[HealthCheck.too_slow],
)
Service.TestCase.settings = LIMITS
ServiceOnRay.TestCase.settings = LIMITS
StormyService.TestCase.settings = LIMITS
TroubledService.TestCase.settings = LIMITS
TestService = Service.TestCase
TestServiceOnRay = ServiceOnRay.TestCase
TestStormyService = StormyService.TestCase
TestTroubledService = TroubledService.TestCase
