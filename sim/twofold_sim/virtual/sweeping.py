"""Many runs: the same requests, faster and slower, with one policy after the other."""

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

import msgspec

from twofold_cluster.identity import Role
from twofold_router.placement.policy import MakePolicy
from twofold_sim.measuring import Record, Served, measure
from twofold_sim.measuring.record import Setting
from twofold_sim.virtual.replaying import Replay
from twofold_sim.virtual.setup import PrefillPool, Setup
from twofold_sim.workloads import (
    SYNTHETIC,
    LongPrompts,
    OnLong,
    Prompt,
    Shape,
    WorkloadError,
    at_qps,
    count_long,
    hit_rate_ceiling,
    name_of,
    no_longer_than,
    open_workload,
)

SAMPLE_COUNT = 300
"""Looks at what is pending where, in the time of the arrivals; none sooner than after a second."""

MOST_MADE = 200_000
"""Prompts of a synthetic workload if too few of twice as many as asked for are short enough."""

_TOLD_ELSEWHERE = ("cluster", "slo", "sample_seconds", "seed")


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests to replay."""

    workload: str
    """A synthetic one's name, or the path of a trace."""
    count: int | None = None
    """Those that are measured; None: all there are."""
    warm_up_count: int = 0
    """Those that come before them, and are served only."""
    max_prompt_tokens: int | None = None
    on_long: OnLong = "truncate"
    shape: Shape | None = None
    """Of a generated workload; None: the usual one."""

    @property
    def name(self) -> str:
        return name_of(self.workload)

    def take(self, seed: int) -> list[Prompt]:
        """Return the prompts, as fast as they are in the workload.

        A synthetic workload is generated from *seed*. Of a trace, seed 0 takes the first, and every
        other seed as many from another place; if that is all of them, the trace begins at another
        place and what was before comes at its end.

        Raises:
            WorkloadError: the trace cannot be read, or has no shape that could be told.
        """
        return self.take_counted(seed)[0]

    def take_counted(self, seed: int) -> tuple[list[Prompt], LongPrompts | None]:
        """Return what ``take`` does, and how many prompts of the workload are too long.

        Raises:
            WorkloadError: the trace cannot be read.
        """
        total = None if self.count is None else self.count + self.warm_up_count
        is_synthetic = self.workload in SYNTHETIC
        if total is None or not is_synthetic:
            prompts, long_prompts = self._without_long(self._opened(None, seed))
            return window(prompts, total, 0 if is_synthetic else seed), long_prompts
        # Some more, since some may be dropped.
        made = 2 * total if self.on_long == "drop" else total
        prompts, long_prompts = self._without_long(self._opened(made, seed))
        while len(prompts) < total and made < MOST_MADE:
            made = min(2 * made, MOST_MADE)
            prompts, long_prompts = self._without_long(self._opened(made, seed))
        return window(prompts, total, 0), long_prompts

    def _opened(self, count: int | None, seed: int) -> list[Prompt]:
        return open_workload(self.workload, count=count, seed=seed, shape=self.shape)

    def _without_long(self, prompts: list[Prompt]) -> tuple[list[Prompt], LongPrompts | None]:
        if self.max_prompt_tokens is None:
            return prompts, None
        long_prompts = count_long(prompts, self.max_prompt_tokens, self.on_long)
        return no_longer_than(prompts, self.max_prompt_tokens, self.on_long), long_prompts


def window(prompts: Sequence[Prompt], count: int | None, seed: int) -> list[Prompt]:
    """Return *count* of *prompts* from a place that *seed* names, 0 the beginning; if that is all
    of them, those before the place come after the others."""
    total = len(prompts)
    count = total if count is None else min(count, total)
    if count == 0:
        return []
    rng = random.Random(f"window {seed}")  # noqa: S311 - guards nothing
    last = total - count or total - 1
    start = rng.randint(0, last) if seed else 0
    taken = list(prompts[start : start + count])
    if len(taken) < count:
        # As long after the last one as two are apart on average.
        gap = (prompts[-1].at - prompts[0].at) / max(total - 1, 1)
        later = prompts[-1].at - prompts[0].at + gap
        taken += [
            msgspec.structs.replace(prompt, at=prompt.at + later) for prompt in prompts[:start]
        ]
    return [msgspec.structs.replace(prompt, at=prompt.at - taken[0].at) for prompt in taken]


def sweep(
    requests: Requests,
    policies: Mapping[str, MakePolicy],
    setups: Sequence[Setup],
    qps: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[Record]:
    """Run each policy at each QPS with each of *setups* and *seeds*, and yield each run's record.

    Raises:
        WorkloadError: the trace cannot be read, nothing is left of it to be measured, or it has no
            time between its arrivals.
    """
    for seed in seeds:
        prompts, long_prompts = requests.take_counted(seed)
        if len(prompts) <= requests.warm_up_count:
            raise WorkloadError(
                f"{requests.workload}: {len(prompts)} requests are left of it, of which "
                f"{requests.warm_up_count} are for warming up: nothing is left to be measured"
            )
        for setup in setups:
            seeded = msgspec.structs.replace(setup, seed=seed)
            for rate in qps:
                arriving = at_qps(prompts, rate)
                for name, make_policy in policies.items():
                    record = run(requests, arriving, name, make_policy, seeded, rate)
                    yield msgspec.structs.replace(record, long_prompts=long_prompts)


def run(
    requests: Requests,
    arriving: Sequence[Prompt],
    policy: str,
    make_policy: MakePolicy,
    setup: Setup,
    qps: float,
) -> Record:
    """Replay *arriving* once."""
    began_at = time.perf_counter()
    interval = max(1.0, arriving[-1].at / SAMPLE_COUNT)
    setup = msgspec.structs.replace(setup, sample_seconds=interval)
    replayed = Replay(arriving, make_policy, setup).run()
    measures = measure(
        replayed.served,
        setup.slo,
        samples=replayed.samples,
        moved_count=replayed.moved_count,
        hit_rate_ceiling=ceiling(arriving, replayed.served, requests.warm_up_count),
        warm_up_count=requests.warm_up_count,
    )
    counts = setup.cluster.counts()
    prefilling = counts.get(Role.PREFILL, 0) + counts.get(Role.BOTH, 0)
    return Record(
        policy=policy,
        workload=requests.name,
        workers=prefilling,
        decode_workers=counts.get(Role.DECODE, 0),
        qps=qps,
        seed=setup.seed,
        slo=setup.slo,
        setup=_told(requests, setup),
        measures=measures,
        virtual_seconds=replayed.virtual_seconds,
        wall_seconds=time.perf_counter() - began_at,
        samples=replayed.samples,
    )


def ceiling(prompts: Sequence[Prompt], served: Iterable[Served], warm_up_count: int) -> float:
    """Return the ceiling of the hit rate that ``measure`` finds for the same *served*.

    It counts those whose prompt was computed, as the hit rate does. The cache is filled by whoever
    was sent to a worker, warming up or not: one that was refused in the router left no block, and
    one that was broken off may have left some.
    """
    sent = sorted((each for each in served if each.mode), key=attrgetter("number"))
    return hit_rate_ceiling(
        (prompts[each.number] for each in sent),
        (each.was_computed and each.number >= warm_up_count for each in sent),
    )


def _told(requests: Requests, setup: Setup) -> dict[str, Setting]:
    """Name what a run was told; of the setup, what is not as usual."""
    cluster = setup.cluster
    told: dict[str, Setting] = {
        "requests": requests.count,
        "warm_up_requests": requests.warm_up_count,
        "max_prompt_tokens": requests.max_prompt_tokens,
        "on_long": requests.on_long,
    }
    if requests.shape is not None:
        told["shape"] = msgspec.json.encode(requests.shape).decode()
    if isinstance(cluster, PrefillPool):
        told["seconds_per_token"] = cluster.seconds_per_token
        told["cache_tokens"] = cluster.cache_tokens
    else:
        told["profile"] = cluster.profile.name
        told["both"] = cluster.both
    usual = Setup(cluster=cluster)
    for name in setup.__struct_fields__:
        value = getattr(setup, name)
        if name not in _TOLD_ELSEWHERE and value != getattr(usual, name):
            is_plain = isinstance(value, str | int | float)
            told[name] = value if is_plain else msgspec.json.encode(value).decode()
    return told
