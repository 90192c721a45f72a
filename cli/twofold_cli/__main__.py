"""The command ``twofold``: its words, its environment, its exit codes."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twofold_cli import bench, directories, doctor, plan
from twofold_cli.errors import CliError
from twofold_cli.preparing import Arguments, prepare
from twofold_cli.state import StateDirectory, running_cluster

if TYPE_CHECKING:
    from twofold_cli.kv import Answer, Question

app = typer.Typer(
    help="Serve a language model with prefill and decode apart, on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench.app, name="bench")
app.command(name="plan", no_args_is_help=True)(plan.plan)
kv = typer.Typer(help="Look into how cache blocks move.", no_args_is_help=True)
app.add_typer(kv, name="kv")

_DEFAULTS = Arguments()


@app.command()
def up(
    model: Annotated[
        str, typer.Option(help="A directory, a hub's name, or smollm2, which is built in.")
    ] = _DEFAULTS.model,
    prefill: Annotated[int, typer.Option(help="Prefill workers; 0: none.")] = _DEFAULTS.prefill,
    decode: Annotated[int, typer.Option(help="Decode workers.")] = _DEFAULTS.decode,
    port: Annotated[int, typer.Option(help="Of the OpenAI API.")] = _DEFAULTS.port,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = _DEFAULTS.host,
    detach: Annotated[bool, typer.Option(help="Return when it is ready.")] = False,
    engine: Annotated[
        str, typer.Option(help="vllm, or sim: engines without a model, that take a profile's time.")
    ] = _DEFAULTS.engine,
    profile: Annotated[
        str | None, typer.Option(help="With --engine sim: a profile's name, or its file.")
    ] = None,
    kv_cache_gib: Annotated[
        float | None, typer.Option(help="KV cache of each CPU worker, in GiB.")
    ] = None,
    kv_events: Annotated[
        bool, typer.Option("--kv-events", help="Let the router follow what is cached.")
    ] = False,
    directory_holdings: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="With --kv-events: most blocks of workers that the block directory lists.",
        ),
    ] = None,
    connector: Annotated[
        str, typer.Option(help="What moves cache blocks: nixl (vLLM's) or twofold (ours).")
    ] = _DEFAULTS.connector,
    transport: Annotated[
        str, typer.Option(help="What --connector twofold moves them over: nixl, tcp or nccl.")
    ] = _DEFAULTS.transport,
    compression: Annotated[
        str,
        typer.Option(
            help="What --transport tcp may code them with where that is quicker:"
            " off, lossless, int8, fp8 or int4."
        ),
    ] = _DEFAULTS.compression,
    verify: Annotated[
        bool,
        typer.Option(help="Have --connector twofold compare what it moved with what was sent."),
    ] = _DEFAULTS.verify,
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="An argument for the engine; repeat it for more.")
    ] = None,
    router_arg: Annotated[
        list[str] | None, typer.Option(help="An argument for the router; repeat it for more.")
    ] = None,
) -> None:
    """Start a cluster, and see it answer."""
    from twofold_cli.starting import up as start

    console = Console()
    arguments = Arguments(
        engine=engine,
        profile=profile,
        model=model,
        prefill=prefill,
        decode=decode,
        host=host,
        port=port,
        kv_cache_gib=kv_cache_gib,
        kv_events=kv_events,
        directory_holdings=directory_holdings,
        connector=connector,
        transport=transport,
        compression=compression,
        verify=verify,
        engine_args=tuple(engine_arg or ()),
        router_args=tuple(router_arg or ()),
    )
    cache = directories.cache_directory(os.environ)
    start(_directory(), lambda: prepare(arguments, cache, console), detach=detach, console=console)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show the cluster. Exit code 0: ready, 1: not quite, 3: none."""
    from twofold_cli import status as reading

    directory = _directory()
    found = reading.read_status(directory)
    if as_json:
        print(reading.as_json(found))
    else:
        reading.show_status(found, directory, Console())
    raise typer.Exit(found.exit_code)


@kv.command()
def peers(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show who reads blocks from whom. Exit code 0: all answered, 1: not all, 3: no cluster."""
    from twofold_cli import kv as asking
    from twofold_cli import kv_tables

    _show_answers(asking.ask_peers, kv_tables.show_peers, as_json=as_json)


@kv.command()
def leases(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show what blocks are kept for whom. Exit code 0: all answered, 1: not all, 3: no cluster."""
    from twofold_cli import kv as asking
    from twofold_cli import kv_tables

    _show_answers(asking.ask_leases, kv_tables.show_leases, as_json=as_json)


@kv.command()
def find(
    prompt: Annotated[str, typer.Argument(help="What a client asks.")],
    chat: Annotated[
        bool, typer.Option("--chat", help="As the first message of a conversation.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="A LoRA adapter's name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show who holds a prompt's blocks. Exit code 0: all tell, 1: not all, 3: no cluster."""
    from twofold_cli import finding, kv_tables

    body = finding.prompt_body(prompt, model=model, is_chat=chat)
    found = finding.find_in_cluster(_directory(), body)
    if as_json:
        print(finding.as_json(found))
    else:
        kv_tables.show_found(found, Console())
    raise typer.Exit(finding.exit_code(found))


@kv.command()
def pull(
    prompt: Annotated[str, typer.Argument(help="What clients will ask, or how they will begin.")],
    to: Annotated[str, typer.Option(metavar="WORKER", help="Who is to have it.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WORKER",
            help="Who has it; unset: the one that `kv find` says holds most of it.",
        ),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="As the first message of a conversation.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="A LoRA adapter's name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Have a worker take a prompt's beginning from another's cache, ahead of need.

    The worker computes what it does not get, and a token more: that is time that its other requests
    wait. Exit code 0: pulled, or there already, 1: not, 3: no cluster.
    """
    from twofold_cli import finding, kv_tables, pull_reports, pulling

    body = finding.prompt_body(prompt, model=model, is_chat=chat)
    report = pulling.pull_in_cluster(_directory(), body, to=to, source=source)
    if as_json:
        print(pull_reports.as_json(report))
    else:
        kv_tables.show_pull(report, Console())
    raise typer.Exit(pull_reports.exit_code(report))


@app.command()
def down() -> None:
    """Stop the cluster."""
    from twofold_cli.stopping import down as stop

    stop(_directory(), Console())


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of the answer.")] = 256,
) -> None:
    """Ask the cluster. Without a prompt on a terminal: a conversation."""
    from twofold_cli import chat as asking

    console = Console()
    cluster = running_cluster(_directory())
    if prompt is None and sys.stdin.isatty():
        asking.converse(cluster, max_tokens=max_tokens, console=console)
    else:
        question = prompt or asking.DEFAULT_PROMPT
        asking.chat(cluster, question, max_tokens=max_tokens, console=console)


@app.command(name="doctor")
def diagnose(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what is missing on this machine, and how to get it."""
    from twofold_cli.inspecting import inspect_machine

    machine = inspect_machine(_directory(), host=_DEFAULTS.host, port=_DEFAULTS.port)
    findings = doctor.examine(machine)
    if as_json:
        print(msgspec.json.encode(findings).decode())
    else:
        _show_findings(findings)
    raise typer.Exit(doctor.exit_code(findings))


def _show_answers(
    question: "Question", show: Callable[["list[Answer]", Console], None], *, as_json: bool
) -> None:
    from twofold_cli import kv as asking

    answers = asking.ask_cluster(_directory(), question)
    if as_json:
        print(asking.as_json(answers))
    else:
        show(answers, Console())
    raise typer.Exit(asking.exit_code(answers))


def _show_findings(findings: list[doctor.Finding]) -> None:
    styles = {doctor.Level.FINE: "green", doctor.Level.WARNING: "yellow"}
    table = Table("", "", "", "what to do", box=None, show_header=False)
    for finding in findings:
        level = Text(finding.level, styles.get(finding.level, "red"))
        # As texts: rich would take what pip calls extras for its markup.
        table.add_row(level, *map(Text, (finding.subject, finding.detail, finding.remedy)))
    Console().print(table)


def _directory() -> StateDirectory:
    return StateDirectory(directories.state_directory(os.environ))


def main() -> None:
    """Run the command; an error meant for the user is told without a traceback."""
    try:
        app()
    except CliError as error:
        print(f"twofold: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
