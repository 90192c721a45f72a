"""The life of one request in virtual time, as ``gateway.exchange`` has it in real time."""

import enum
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import msgspec

from twofold_cluster.errors import Fault
from twofold_cluster.identity import WorkerId
from twofold_cluster.prompt_key import PromptKey
from twofold_cluster.worker import Worker
from twofold_router.placement import (
    Decision,
    Dispatch,
    Outcome,
    PlacementRequest,
    Reason,
    Refuse,
)
from twofold_sim.engine_model import Event
from twofold_sim.measuring import Served
from twofold_sim.virtual.routing import Router
from twofold_sim.virtual.serial_engine import TimedJob
from twofold_sim.virtual.setup import Setup
from twofold_sim.virtual.told import Told
from twofold_sim.virtual.worker import Failure, Leg
from twofold_sim.workloads import Prompt

MODEL = "virtual"

LOST = "lost"
"""Every worker that was tried has failed."""
LEFT = "client-left"
TOO_LONG = Fault.CONTEXT_TOO_LONG.code


class Stage(enum.Enum):
    """Where a request is."""

    WAITING = enum.auto()
    LEG_1 = enum.auto()
    LEG_2 = enum.auto()
    """Until its first token."""
    STREAMING = enum.auto()
    OVER = enum.auto()


class Fleet(Protocol):
    """The way to the workers."""

    def ask(self, worker: Worker, leg: Leg, now: float) -> None:
        """Begin *leg* at whoever is *worker* now. If something stands against it, whoever asks is
        told so later, at the same moment."""
        ...

    def block_ids(self, prompt: Prompt, number: int, generated_tokens: int) -> Sequence[Hashable]:
        """Return what the engines know the blocks of *prompt*, the *number*-th, by, when so many
        tokens of its answer follow it."""
        ...


class Exchange:
    """One request, from its arrival to its end. Used once.

    Invariant: it has a place at its router (it waits there, or was dispatched) in every stage but
    ``OVER``, and gives it back exactly once. ``_leg`` is the one that is under way, and ``_source``
    the ended leg 1 whose blocks leg 2 has not pulled yet.
    """

    __slots__ = (
        "_attempts_1",
        "_attempts_2",
        "_avoid",
        "_client_left",
        "_dispatch",
        "_ended",
        "_fleet",
        "_generated_tokens",
        "_key",
        "_leg",
        "_leg_began_at",
        "_place_count",
        "_prefill_factor",
        "_prompt",
        "_request_id",
        "_router",
        "_setup",
        "_source",
        "_stage",
        "_told",
        "_ttft_seconds",
        "number",
    )

    def __init__(
        self,
        number: int,
        prompt: Prompt,
        key: PromptKey,
        prefill_factor: float,
        router: Router,
        fleet: Fleet,
        setup: Setup,
        ended: Callable[["Exchange", Served], None],
    ) -> None:
        """*ended* is told once, at the end."""
        self.number = number
        self._prompt = prompt
        self._key = key
        self._prefill_factor = prefill_factor
        self._router = router
        self._fleet = fleet
        self._setup = setup
        self._ended = ended
        self._stage = Stage.WAITING
        self._request_id = ""
        self._place_count = 0
        self._attempts_1 = 0
        """Workers that were tried in vain for leg 1, and the same for leg 2."""
        self._attempts_2 = 0
        self._avoid: frozenset[WorkerId] = frozenset()
        self._client_left = False
        self._dispatch: Dispatch | None = None
        self._leg: Leg | None = None
        self._leg_began_at = 0.0
        """When the first token of leg 2 came, or of the one that goes on with it."""
        self._source: Leg | None = None
        self._generated_tokens = 0
        """That the client has from a stream that was cut."""
        self._ttft_seconds: float | None = None
        self._told = Told()

    @property
    def has_begun(self) -> bool:
        """Return True once the client has the first token."""
        return self._ttft_seconds is not None

    def arrive(self, now: float) -> None:
        """Ask for a place."""
        self._ask_for_a_place(None, now, separable=True)

    def leave(self, now: float, *, is_late: bool) -> None:
        """Take note that the client has gone, or that the request has taken too long (*is_late*).

        Leg 1 is finished all the same, so that its blocks are known.
        """
        if self._stage is Stage.OVER or self._client_left:
            return
        self._client_left = True
        self._told.refused = Fault.DEADLINE_EXCEEDED.code if is_late else LEFT
        if self._stage is Stage.WAITING:
            self._router.withdraw(self._request_id, now)
            self._end(now)
        elif self._stage is not Stage.LEG_1:
            self._stop_leg(now)
            self._give_back(None, now)
            self._end(now)

    # Places

    def _ask_for_a_place(self, cause: Reason | None, now: float, *, separable: bool) -> None:
        self._place_count += 1
        # A new id each time, so that nothing under way for the old one is taken for the new.
        self._request_id = f"{self.number}.{self._place_count}"
        self._stage = Stage.WAITING
        at, slo = self._prompt.at, self._setup.slo
        request = PlacementRequest(
            request_id=self._request_id,
            model=MODEL,
            key=self._key,
            separable=separable,
            arrived_at=at,
            deadline_at=at + self._setup.timeout_seconds,
            ttft_slo_seconds=slo.ttft_seconds,
            ttft_slo_seconds_per_token=slo.ttft_seconds_per_token,
            refuse_late=self._setup.refuse_late,
            avoid=self._avoid,
            cause=cause,
        )
        self._router.submit(request, self._decided, now)

    def _decided(self, decision: Decision, now: float) -> None:
        if isinstance(decision, Refuse):
            self._dispatch = None
            self._told.refused = decision.fault.code
            self._end(now)
            return
        self._dispatch = decision
        self._told.mode = decision.mode
        if decision.prefill is not None:
            self._stage = Stage.LEG_1
            self._ask(decision.prefill, 1, 0, now)
        else:
            self._ask_decode(decision.decode, 0, now)

    def _place_again(self, cause: Reason, now: float, *, separable: bool) -> None:
        self._give_back(None, now)
        self._ask_for_a_place(cause, now, separable=separable)

    def _give_back(self, outcome: Outcome | None, now: float) -> None:
        self._dispatch = None
        self._router.finished(self._request_id, outcome, now)

    # Legs

    def _ask(self, worker: Worker, output_tokens: int, fetched_tokens: int, now: float) -> None:
        prompt_tokens = self._prompt.prompt_tokens + self._generated_tokens
        block_ids = self._fleet.block_ids(self._prompt, self.number, self._generated_tokens)
        job = TimedJob(
            job_id=self._request_id,
            block_ids=block_ids,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            fetched_tokens=fetched_tokens,
            keeps_blocks=self._stage is Stage.LEG_1,
            prefill_factor=self._prefill_factor,
        )
        self._leg = Leg(job, self)
        self._fleet.ask(worker, self._leg, now)

    def _ask_decode(self, worker: Worker, fetched_tokens: int, now: float) -> None:
        self._stage = Stage.LEG_2
        output_tokens = self._prompt.output_tokens - self._generated_tokens
        self._ask(worker, max(output_tokens, 1), fetched_tokens, now)

    def first_token(self, leg: Leg, event: Event, now: float) -> None:
        if self._stage is Stage.LEG_1:
            self._told.computed(leg, event)
            return
        dispatch = self._dispatch
        assert dispatch is not None
        self._stage = Stage.STREAMING
        self._leg_began_at = now
        self._release_source(now)
        self._told.transferred_tokens += event.fetched_tokens
        if self._ttft_seconds is None:
            self._ttft_seconds = now - self._prompt.at
        if dispatch.prefill is None:
            self._told.computed(leg, event)
            self._router.prefilled(self._request_id, None, now)

    def leg_ended(self, leg: Leg, now: float) -> None:
        if self._stage is Stage.LEG_1:
            self._leg_1_ended(leg, now)
            return
        dispatch = self._dispatch
        assert dispatch is not None
        job = leg.job
        self._leg = None
        outcome = Outcome(
            output_tokens=job.output_tokens,
            decode_seconds=now - self._leg_began_at,
            ttft_seconds=self._leg_began_at - dispatch.decided_at,
            usage=None if dispatch.prefill else self._told.usage(job),
        )
        self._told.decode = dispatch.decode.worker_id
        self._give_back(outcome, now)
        self._end(now)

    def _leg_1_ended(self, leg: Leg, now: float) -> None:
        dispatch = self._dispatch
        assert dispatch is not None
        self._leg = None
        self._source = leg
        self._router.prefilled(self._request_id, self._told.usage(leg.job), now)
        if self._client_left:
            self._release_source(now)
            self._give_back(None, now)
            self._end(now)
        else:
            self._ask_decode(dispatch.decode, leg.job.prompt_tokens, now)

    def leg_failed(self, leg: Leg, failure: Failure, now: float) -> None:
        if leg is not self._leg:
            return
        dispatch = self._dispatch
        assert dispatch is not None
        self._leg = None
        worker = dispatch.prefill if self._stage is Stage.LEG_1 else dispatch.decode
        assert worker is not None
        if failure == "unreachable":
            self._router.suspect(worker, now)
        if failure == "rejected":
            self._told.refused = TOO_LONG
        if failure == "rejected" or self._client_left:
            self._give_up(now)
        elif self._stage is Stage.LEG_1:
            self._find_another_prefill(worker, failure, now)
        else:
            self._find_another_decode(leg, worker, failure, now)

    def _find_another_prefill(self, worker: Worker, failure: Failure, now: float) -> None:
        """Take a place without *worker*, and after too many have a decode worker do it all."""
        self._attempts_1 += 1
        self._avoid |= {worker.worker_id}
        reason = Reason.PREFILL_REFUSED if failure == "refused" else Reason.PREFILL_FAILED
        another = self._attempts_1 < self._setup.max_attempts
        self._place_again(reason, now, separable=another)

    def _find_another_decode(self, leg: Leg, worker: Worker, failure: Failure, now: float) -> None:
        """Go on at another decode worker, with what there is by now."""
        dispatch = self._dispatch
        assert dispatch is not None
        self._attempts_2 += 1
        if self._attempts_2 >= self._setup.max_attempts:
            self._give_up(now)
            return
        if failure != "failed":
            self._avoid |= {worker.worker_id}
        if self._ttft_seconds is not None:
            if self._stage is Stage.STREAMING:
                self._generated_tokens += leg.generated_tokens
            self._release_source(now)
            self._place_again(Reason.STREAM_CUT, now, separable=False)
        elif self._source is not None and failure in ("broken", "failed"):
            self._release_source(now)
            self._place_again(Reason.TRANSFER_FAILED, now, separable=False)
        else:
            other = self._router.move_decode(self._request_id, self._avoid, now)
            if other is None:
                self._give_up(now)
                return
            self._dispatch = msgspec.structs.replace(dispatch, decode=other)
            self._ask_decode(other, leg.job.fetched_tokens, now)

    def source_died(self, leg: Leg, now: float) -> None:
        """Do without the blocks of leg 1: leg 2 fails, unless it has pulled them."""
        if leg is not self._source:
            return
        self._source = None
        if self._stage is Stage.LEG_2 and self._leg is not None:
            leg_2 = self._leg
            self._stop_leg(now)
            self._leg = leg_2
            self._source = leg
            self.leg_failed(leg_2, "failed", now)

    # The end

    def _stop_leg(self, now: float) -> None:
        leg, self._leg = self._leg, None
        if leg is not None and leg.at is not None:
            leg.at.abort(leg, now)
        self._release_source(now)

    def _release_source(self, now: float) -> None:
        source, self._source = self._source, None
        if source is not None and source.at is not None:
            source.at.release(source, now)

    def _give_up(self, now: float) -> None:
        if not self._told.refused:
            self._told.refused = LOST
        self._release_source(now)
        self._give_back(None, now)
        self._end(now)

    def _end(self, now: float) -> None:
        assert self._stage is not Stage.OVER, self.number
        self._stage = Stage.OVER
        served = self._told.served(self.number, self._prompt, self._ttft_seconds, now)
        self._ended(self, served)
