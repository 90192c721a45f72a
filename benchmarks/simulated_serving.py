"""Requests that a real engine has served, through simulated ones."""

import math
from collections.abc import Sequence

import msgspec

from benchmarks.shared_machine import SharedMachine
from twofold_sim.engine_model import BatchingEngine, Event, Job
from twofold_sim.profiles import Profile

PREFILL, DECODE = 0, 1


class Request(msgspec.Struct, frozen=True):
    """One request of the workload, as the real engine served it."""

    at: float
    prompt_tokens: int
    output_tokens: int
    ttft: float
    tpot: float


class Served(msgspec.Struct, frozen=True):
    """The times of one request in the simulated engine."""

    ttft: float
    tpot: float


def simulate(
    profile: Profile,
    requests: Sequence[Request],
    *,
    pair: bool,
    slowdowns: tuple[float, float] = (1.0, 1.0),
) -> list[Served]:
    """Serve the same *requests* by simulated engines of *profile*; *slowdowns* of a pair are those
    of the prefill and the decode engine while both compute."""
    engines = [BatchingEngine(profile) for _ in range(1 + pair)]
    machine = SharedMachine(engines, slowdowns[: len(engines)])
    first: dict[int, float] = {}
    finished: dict[int, float] = {}

    def run_until(at: float) -> None:
        """Let the engines go on until *at*; leg 2 follows leg 1 when this has ended."""
        while (due := machine.next_at()) < at:
            for engine, event in machine.advance(due):
                if engine < len(engines) - 1:
                    second_leg(event)
                else:
                    note(event)

    def note(event: Event) -> None:
        number = int(event.job_id)
        if event.kind == "first-token":
            first[number] = event.at
        if event.kind == "finished":
            finished[number] = event.at
            machine.release(PREFILL, event.job_id, event.at)

    def second_leg(event: Event) -> None:
        if event.kind == "finished":
            request = requests[int(event.job_id)]
            job = _job(event.job_id, request, request.output_tokens, fetched=True)
            machine.add(DECODE, job, event.at)

    for number, request in sorted(enumerate(requests), key=lambda each: each[1].at):
        run_until(request.at)
        output_tokens = 1 if pair else request.output_tokens
        machine.add(PREFILL, _job(str(number), request, output_tokens, keeps=pair), request.at)
    run_until(math.inf)
    return [
        Served(
            first[number] - request.at,
            (finished[number] - first[number]) / max(request.output_tokens - 1, 1),
        )
        for number, request in enumerate(requests)
    ]


def _job(
    job_id: str, request: Request, output_tokens: int, *, fetched: bool = False, keeps: bool = False
) -> Job:
    """Make a job whose blocks are its own: the workload shares no prefixes."""
    return Job(
        job_id,
        (),
        request.prompt_tokens,
        output_tokens,
        fetched_tokens=request.prompt_tokens if fetched else 0,
        keeps_blocks=keeps,
    )
