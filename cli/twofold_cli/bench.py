"""``twofold bench``: try a cluster that does not exist on requests that do.

What is heavy is imported by the command that needs it, so that no other command waits for it.
"""

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from twofold_cli.bench_outputs import Outputs
from twofold_cli.errors import BadArgumentError
from twofold_cli.number_lists import numbers, pairs

if TYPE_CHECKING:
    from twofold_router.placement.policy import MakePolicy
    from twofold_sim.measuring import Record
    from twofold_sim.virtual import EngineCluster, PrefillPool, Requests, Setup

app = typer.Typer(
    help="Try placement policies and whole clusters without any.", no_args_is_help=True
)

PROFILE_CONTEXT_SHARE = 0.75
"""Of a profile's context, what a prompt may take if nobody says: the answer needs room as well."""

_WHAT = "What is replayed"
_CLUSTER = "The cluster"
_TROUBLE = "What is not as it should be"
_OUTPUT = "What comes out"


@app.callback()
def bench() -> None:
    """Try placement policies and whole clusters without any."""


@app.command(no_args_is_help=True)
def replay(
    trace: Annotated[
        str,
        typer.Option(
            help="A trace of Mooncake's (JSON lines), Azure's or BurstGPT's form (CSV), or "
            "synthetic-agent or synthetic-zipf, which are made up.",
            rich_help_panel=_WHAT,
        ),
    ],
    qps: Annotated[
        str,
        typer.Option(
            help="Requests a second on average, one after the other: 6,7,8.",
            rich_help_panel=_WHAT,
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="all, or names: twofold,dual-map. An unknown one shows those that are known.",
            rich_help_panel=_WHAT,
        ),
    ] = "all",
    shape: Annotated[
        str | None,
        typer.Option(
            help="Of synthetic-zipf: gap-variation=4,prompt-exponent=1.2. An unknown name shows "
            "those that are known.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            min=1, help="So many are measured; without it all of them.", rich_help_panel=_WHAT
        ),
    ] = None,
    warm_up: Annotated[
        int,
        typer.Option(min=0, help="So many before them are not measured.", rich_help_panel=_WHAT),
    ] = 0,
    max_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Prompts are not longer. With a profile, three quarters of its context.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    on_long: Annotated[
        Literal["truncate", "drop"],
        typer.Option(help="What becomes of longer prompts.", rich_help_panel=_WHAT),
    ] = "truncate",
    seeds: Annotated[
        str,
        typer.Option(
            help="0 takes the first requests of a trace, another seed those from another place; it "
            "generates a synthetic workload, and decides what chance does: 0,1,2,3,4.",
            rich_help_panel=_WHAT,
        ),
    ] = "0",
    slo_ttft_ms: Annotated[
        float, typer.Option(min=1, help="The first token is due.", rich_help_panel=_WHAT)
    ] = 5000.0,
    slo_ttft_ms_per_token: Annotated[
        float,
        typer.Option(min=0, help="Later by this for each prompt token.", rich_help_panel=_WHAT),
    ] = 0.0,
    slo_tpot_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Each token after the first, with --profile.", rich_help_panel=_WHAT
        ),
    ] = None,
    workers: Annotated[
        str,
        typer.Option(
            help="Workers that prefill, one number after the other: 8,16,32.",
            rich_help_panel=_CLUSTER,
        ),
    ] = "8",
    profile: Annotated[
        str | None,
        typer.Option(
            help="What engines cost, by name or file: a whole cluster. Without it the workers only "
            "prefill, one prompt after the other.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    decode: Annotated[
        str,
        typer.Option(
            help="Workers that decode, with --profile: 8, or one number for each of --workers. "
            "0: each worker does both.",
            rich_help_panel=_CLUSTER,
        ),
    ] = "0",
    seconds_per_token: Annotated[
        float | None,
        typer.Option(
            help="Of a prefill, without --profile; 0.00016 if nobody says.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    cache_tokens: Annotated[
        int | None,
        typer.Option(
            min=512,
            help="Of a worker, without --profile; a million if nobody says.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(
            min=1, help="Routers that take the requests in turn.", rich_help_panel=_CLUSTER
        ),
    ] = 1,
    max_queued: Annotated[
        int | None,
        typer.Option(
            min=0, help="That may wait at a router; without it all.", rich_help_panel=_CLUSTER
        ),
    ] = None,
    refuse_late: Annotated[
        bool,
        typer.Option(
            "--refuse-late", help="Refuse who cannot be on time.", rich_help_panel=_CLUSTER
        ),
    ] = False,
    speeds: Annotated[
        str,
        typer.Option(
            help="Of the workers in turn: with 1,1,0.5 each third takes twice the time.",
            rich_help_panel=_TROUBLE,
        ),
    ] = "1",
    mispredicted: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99,
            help="Prefills take up to this share less or more than predicted; without --profile.",
            rich_help_panel=_TROUBLE,
        ),
    ] = 0.0,
    report_delay_ms: Annotated[
        str,
        typer.Option(
            help="Of the workers' load reports, as a range: 50,1000.", rich_help_panel=_TROUBLE
        ),
    ] = "0",
    report_loss: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of them that is lost.", rich_help_panel=_TROUBLE),
    ] = 0.0,
    incident: Annotated[
        list[str] | None,
        typer.Option(
            help="die:p3@120, leave:p3@120 or join:p8@120: prefill worker 3 dies after 120 s. d0 "
            "decodes, b0 does both. Repeat it for more.",
            rich_help_panel=_TROUBLE,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(help="A file for a record of each run.", rich_help_panel=_OUTPUT),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="A file for a report with pictures.", rich_help_panel=_OUTPUT),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="A folder for pictures.", rich_help_panel=_OUTPUT)
    ] = None,
) -> None:
    """Replay requests in virtual time, with the router's own placement.

    Each policy serves the same requests at each QPS. A line tells of each run as it ends, a table
    of all of them at the end. Exit code 2: something that was asked for cannot be.

    twofold bench replay --trace synthetic-agent --workers 8 --qps 20,25,30
    """
    from twofold_sim.measuring import Slo
    from twofold_sim.virtual import Reporting, Requests, Setup, parse_incident
    from twofold_sim.workloads import parse_shape

    outputs = Outputs(json, html, png)
    outputs.check()
    if profile is None and slo_tpot_ms is not None:
        raise BadArgumentError("--slo-tpot-ms needs a --profile: without it nobody decodes")
    delays_ms = numbers("--report-delay-ms", report_delay_ms, float)
    with _told_plainly():
        setup = Setup(
            cluster=_cluster(profile, seconds_per_token, cache_tokens),
            replicas=replicas,
            max_queued=max_queued,
            refuse_late=refuse_late,
            speeds=tuple(numbers("--speeds", speeds, float, positive=True)),
            misprediction=mispredicted,
            reporting=Reporting(
                least_delay_seconds=min(delays_ms) / 1000,
                most_delay_seconds=max(delays_ms) / 1000,
                loss=report_loss,
            ),
            incidents=tuple(map(parse_incident, incident or ())),
            slo=Slo(
                ttft_seconds=slo_ttft_ms / 1000,
                ttft_seconds_per_token=slo_ttft_ms_per_token / 1000,
                tpot_seconds=None if slo_tpot_ms is None else slo_tpot_ms / 1000,
            ),
        )
        sizes = pairs(
            numbers("--workers", workers, int, positive=True), numbers("--decode", decode, int)
        )
        asked = Requests(
            workload=trace,
            count=requests,
            warm_up_count=warm_up,
            max_prompt_tokens=max_prompt_tokens or _longest(setup),
            on_long=on_long,
            shape=None if shape is None else parse_shape(shape),
        )
        records = _run_all(
            asked,
            policy,
            [_sized(setup, *size) for size in sizes],
            numbers("--qps", qps, float, positive=True),
            numbers("--seeds", seeds, int),
        )
        outputs.write(records)


def chosen_policies(text: str) -> "dict[str, MakePolicy]":
    """Find the policies that ``--policy`` names.

    Raises:
        BadArgumentError: one is not known; the message names those that are.
    """
    from twofold_sim.policies import ABLATIONS, SIM_POLICIES

    if text == "all":
        return dict(SIM_POLICIES)
    known = {**SIM_POLICIES, **ABLATIONS}
    names = text.split(",")
    for name in names:
        if name not in known:
            raise BadArgumentError(
                f"{name!r} is no policy; known are {', '.join(known)}, and all, "
                f"which are the first {len(SIM_POLICIES)}"
            )
    return {name: known[name] for name in names}


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """Tell of what is wrong with a file or a number in one line.

    Raises:
        BadArgumentError: something is.
    """
    from twofold_sim.picturing import PicturingError
    from twofold_sim.profiles import ProfileError
    from twofold_sim.virtual import InvalidSetupError
    from twofold_sim.workloads import WorkloadError

    try:
        yield
    except (
        *(InvalidSetupError, PicturingError, ProfileError, WorkloadError),
        OSError,
    ) as error:
        raise BadArgumentError(str(error)) from error


def _cluster(
    profile: str | None, seconds_per_token: float | None, cache_tokens: int | None
) -> "PrefillPool | EngineCluster":
    """Return the kind of cluster, with nobody in it.

    Raises:
        BadArgumentError: it has no such cost, or has it from its profile.
    """
    from twofold_sim.profiles import load_profile
    from twofold_sim.virtual import EngineCluster, PrefillPool

    told = {"seconds_per_token": seconds_per_token, "cache_tokens": cache_tokens}
    if profile is not None:
        for name, number in told.items():
            if number is not None:
                option = f"--{name.replace('_', '-')}"
                raise BadArgumentError(f"{option} is for prefill workers alone, without --profile")
        return EngineCluster(profile=load_profile(profile))
    if seconds_per_token is not None and not 0 < seconds_per_token < math.inf:
        raise BadArgumentError("--seconds-per-token must be more than 0")
    pool = PrefillPool(workers=0)
    return msgspec.structs.replace(
        pool, **{name: number for name, number in told.items() if number is not None}
    )


def _sized(setup: "Setup", workers: int, decode: int) -> "Setup":
    """Return *setup* with so many workers."""
    from twofold_sim.virtual import PrefillPool, check_incidents, worker_ids

    cluster = setup.cluster
    if isinstance(cluster, PrefillPool):
        if decode:
            raise BadArgumentError("--decode needs a --profile: without it nobody decodes")
        cluster = msgspec.structs.replace(cluster, workers=workers)
    elif decode:
        cluster = msgspec.structs.replace(cluster, prefill=workers, decode=decode)
    else:
        cluster = msgspec.structs.replace(cluster, both=workers)
    if setup.misprediction and not isinstance(cluster, PrefillPool):
        raise BadArgumentError("--mispredicted is for prefill workers alone, without --profile")
    check_incidents(setup.incidents, worker_ids(cluster), cluster.counts())
    return msgspec.structs.replace(setup, cluster=cluster)


def _longest(setup: "Setup") -> int | None:
    """Return how long prompts may be when nobody says."""
    from twofold_sim.virtual import PrefillPool

    cluster = setup.cluster
    if isinstance(cluster, PrefillPool):
        return None
    return int(cluster.profile.context_tokens * PROFILE_CONTEXT_SHARE)


def _run_all(
    asked: "Requests",
    policy: str,
    setups: "Sequence[Setup]",
    qps: Sequence[float],
    seeds: Sequence[int],
) -> "list[Record]":
    """Run them all, with a line on stderr for each as it ends."""
    from twofold_sim.virtual import sweep

    policies = chosen_policies(policy)
    count = len(policies) * len(setups) * len(qps) * len(seeds)
    records = []
    for record in sweep(asked, policies, setups, qps, seeds):
        records.append(record)
        figures = record.measures.everyone
        print(
            f"[{len(records)}/{count}] {record.policy}, {record.workers} workers, "
            f"{record.qps:g} a second, seed {record.seed}: {figures.slo_share:.3f} on time, "
            f"hit rate {figures.hit_rate:.3f} ({record.wall_seconds:.1f} s)",
            file=sys.stderr,
            flush=True,
        )
    return records
