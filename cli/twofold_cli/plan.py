"""``twofold plan``: how to deal out GPUs for requests like those of a trace.

What is heavy is imported when the command runs, so that no other command waits for it.
"""

import contextlib
import math
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from twofold_cli.bench import PROFILE_CONTEXT_SHARE
from twofold_cli.errors import BadArgumentError, CliError
from twofold_cli.number_lists import numbers

if TYPE_CHECKING:
    from twofold_sim.planning import Plan
    from twofold_sim.profiles import Profile
    from twofold_sim.workloads import LongPrompts, OnLong, Prompt

MOST_LONG_SHARE = 0.5
"""Of the prompts, those that may be cut or left out unless it is asked for."""

MOST_SLO_MS = 3_600_000
"""That an LLMService may promise."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

_FOR_WHAT = "What is planned for"
_SEARCH = "The search"
_OUTPUT = "What comes out"


class NoPlanError(CliError):
    """What was asked for can be meant, but not be had."""


def plan(
    trace: Annotated[
        str,
        typer.Option(
            help="A trace of Mooncake's (JSON lines), Azure's or BurstGPT's form (CSV), or "
            "synthetic-agent or synthetic-zipf, which are made up.",
            rich_help_panel=_FOR_WHAT,
        ),
    ],
    profile: Annotated[
        list[str],
        typer.Option(
            help="What engines cost, by name or file; repeat it for each tensor parallelism, or "
            "leave -tp2 and the like away to take all of a name: llama2-70b-h100.",
            rich_help_panel=_FOR_WHAT,
        ),
    ],
    slo_ttft_ms: Annotated[
        float, typer.Option(min=1, help="The first token is due.", rich_help_panel=_FOR_WHAT)
    ],
    slo_tpot_ms: Annotated[
        float,
        typer.Option(min=0.001, help="Each token after the first.", rich_help_panel=_FOR_WHAT),
    ],
    gpus: Annotated[int, typer.Option(min=1, help="That there are.", rich_help_panel=_FOR_WHAT)],
    tp: Annotated[
        str | None,
        typer.Option(
            help="Tensor parallelisms to try, 1,2,4; without it those of all profiles.",
            rich_help_panel=_FOR_WHAT,
        ),
    ] = None,
    on_time: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1,
            help="Share of the requests that are to meet both SLOs.",
            rich_help_panel=_FOR_WHAT,
        ),
    ] = 0.9,
    max_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Prompts are not longer; without it three quarters of the context, which most "
            "prompts must fit.",
            rich_help_panel=_FOR_WHAT,
        ),
    ] = None,
    on_long: Annotated[
        Literal["truncate", "drop"],
        typer.Option(help="What becomes of longer prompts.", rich_help_panel=_FOR_WHAT),
    ] = "truncate",
    arrivals: Annotated[
        Literal["poisson", "trace"],
        typer.Option(
            help="Drawn at random, or spaced as in the trace. Many traces tell the time in whole "
            "seconds, or three, and so have bursts that never were.",
            rich_help_panel=_FOR_WHAT,
        ),
    ] = "poisson",
    requests: Annotated[
        int | None,
        typer.Option(
            min=50,
            help="So many are measured in each run; without it as many as it takes, up to 3000.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(
            help="The search is made with the first, and the best are compared with all: 0,1.",
            rich_help_panel=_SEARCH,
        ),
    ] = "0,1",
    output: Annotated[
        Path,
        typer.Option(
            help="A file for the resource; - is after the table.", rich_help_panel=_OUTPUT
        ),
    ] = Path("-"),
    name: Annotated[
        str | None,
        typer.Option(help="Of the resource; without it the profile's.", rich_help_panel=_OUTPUT),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The resource's model: hf://Qwen/Qwen3-8B, which Qwen/Qwen3-8B is short for.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="A file for all that was found.", rich_help_panel=_OUTPUT)
    ] = None,
) -> None:
    """Find how many workers should prefill and how many decode, and write the LLMService for it.

    Layouts of the GPUs are simulated, at one rate after the other, with the router's own placement.
    The best serves the most requests a second within both SLOs. Exit code 1: there is no such
    layout, and why; 2: something that was asked for cannot be.

    twofold plan --trace synthetic-agent --profile llama2-70b-h100 --gpus 16 --slo-ttft-ms 5000
    --slo-tpot-ms 80
    """
    from twofold_sim.planning import Objective, Question, search
    from twofold_sim.workloads import name_of

    for option, number in (("--slo-ttft-ms", slo_ttft_ms), ("--slo-tpot-ms", slo_tpot_ms)):
        if not math.isfinite(number) or number > MOST_SLO_MS:
            raise BadArgumentError(
                f"{option} is {number:g}, and must be a number of at most {MOST_SLO_MS:,}"
            )
    source = None if model is None else model_source(model)
    to_stdout = str(output) == "-"
    _check_file("--json", json)
    _check_file("--output", None if to_stdout else output)
    with _told_plainly():
        profiles = chosen_profiles(profile, tp)
        prompts, long_prompts = _prompts(trace, profiles, max_prompt_tokens, on_long)
        question = Question(
            workload=name_of(trace),
            prompts=prompts,
            profiles=profiles,
            gpu_count=gpus,
            objective=Objective(
                ttft_seconds=slo_ttft_ms / 1000,
                tpot_seconds=slo_tpot_ms / 1000,
                good_share=on_time,
            ),
            spacing=arrivals,
            measured_count=requests,
            seeds=tuple(numbers("--seeds", seeds, int)),
            long_prompts=long_prompts,
        )
        found = search(question, _progress())
        _show(
            found,
            name=name or family(profiles[0]),
            model=source,
            output=None if to_stdout else output,
        )
        if json is not None:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def chosen_profiles(names: Sequence[str], tp: str | None) -> "list[Profile]":
    """Find the profiles that ``--profile`` and ``--tp`` name, the smallest first.

    Raises:
        BadArgumentError: two of them are of the same tensor parallelism, or there is none of one.
        ProfileError: one is not known, and cannot be read.
    """
    found: dict[int, Profile] = {}
    for each in [profile for name in names for profile in _named(name)]:
        if found.setdefault(each.gpu_count, each) != each:
            raise BadArgumentError(
                f"--profile names {found[each.gpu_count].name} and {each.name}, both on "
                f"{each.gpu_count} GPUs: plan for one of them at a time"
            )
    wanted = sorted(found) if tp is None else numbers("--tp", tp, int, positive=True)
    for count in wanted:
        if count not in found:
            known = ", ".join(map(str, sorted(found)))
            raise BadArgumentError(
                f"--tp has {count}, and no profile is of that; --profile names those of {known}"
            )
    return [found[count] for count in sorted(set(wanted))]


def model_source(model: str) -> str:
    """Return what an LLMService calls *model*, which may also be as ``up --model`` takes it.

    Raises:
        BadArgumentError: an LLMService has no such source.
    """
    from twofold_operator.resources import InvalidSpecError, parse_source

    source = f"hf://{model}" if _HUB_NAME.fullmatch(model) else model
    try:
        parse_source(source, "--model")
    except InvalidSpecError as error:
        raise BadArgumentError(str(error)) from error
    return source


def family(profile: "Profile") -> str:
    """Return the name of *profile* without its tensor parallelism."""
    return profile.name.removesuffix(f"-tp{profile.gpu_count}")


def _named(name: str) -> "list[Profile]":
    from twofold_sim.profiles import load_built_in_profiles, load_profile

    relatives = [each for each in load_built_in_profiles() if name == family(each) != each.name]
    return relatives or [load_profile(name)]


def _prompts(
    trace: str, profiles: "Sequence[Profile]", max_prompt_tokens: int | None, on_long: "OnLong"
) -> "tuple[list[Prompt], LongPrompts | None]":
    """Return the prompts as they are planned for, and how many of the workload's are too long.

    Raises:
        BadArgumentError: most are too long for the profiles, and nobody said that they are to be
            cut to this: it would be a plan for other requests, which the service does not get.
        WorkloadError: the trace cannot be read, or nothing is left of it.
    """
    from twofold_sim.workloads import WorkloadError, count_long, no_longer_than, open_workload

    context = min(profile.context_tokens for profile in profiles)
    longest = max_prompt_tokens or int(context * PROFILE_CONTEXT_SHARE)
    opened = open_workload(trace)
    long_prompts = count_long(opened, longest, on_long)
    prompts = no_longer_than(opened, longest, on_long)
    if not prompts:
        raise WorkloadError(f"{trace}: no prompt of it has {longest} tokens or fewer")
    is_other = long_prompts is not None and long_prompts.share > MOST_LONG_SHARE
    if is_other and max_prompt_tokens is None:
        raise BadArgumentError(
            f"{trace}: {long_prompts}, three quarters of the context of {context:,}: a plan would "
            "be for other requests than these; take a --profile with a longer context, or say "
            f"--max-prompt-tokens {longest} to plan for what is left of them"
        )
    return prompts, long_prompts


def _show(found: "Plan", *, name: str, model: str | None, output: Path | None) -> None:
    from twofold_sim.planning import plan_table, plan_text, render_resource

    print(f"{plan_table(found)}\n\n{plan_text(found)}")
    command = shlex.join(["twofold", *sys.argv[1:]])
    resource = render_resource(found, name=name, model=model, command=command)
    if output is None:
        print(f"---\n{resource}", end="")
    else:
        output.write_text(resource)


def _progress() -> "_Progress":
    return _Progress(time.perf_counter())


class _Progress:
    """Tells on stderr how far it is."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at

    def __call__(self, line: str) -> None:
        seconds = time.perf_counter() - self._began_at
        print(f"[{seconds:4.0f} s] {line}", file=sys.stderr, flush=True)


def _check_file(option: str, path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise BadArgumentError(f"{option}: {path} is no file that could be written")


@contextlib.contextmanager
def _told_plainly() -> Iterator[None]:
    """Tell in one line of what is wrong with what was asked for, or why there is no plan.

    Raises:
        BadArgumentError: a file or a number cannot be.
        NoPlanError: there is no plan.
    """
    from twofold_sim.planning import NoRoomError, PlanningError
    from twofold_sim.profiles import ProfileError
    from twofold_sim.virtual import InvalidSetupError
    from twofold_sim.workloads import WorkloadError

    try:
        yield
    except (InvalidSetupError, NoRoomError, ProfileError, WorkloadError, OSError) as error:
        raise BadArgumentError(str(error)) from error
    except PlanningError as error:
        raise NoPlanError(f"no plan: {error}") from error
