"""The command ``twofold``: its words, its environment, its exit codes."""

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twofold_cli import bench, directories, doctor, kv_commands, plan
from twofold_cli.api_key import KEY_VARIABLE, user_key
from twofold_cli.errors import CliError
from twofold_cli.preparing import Arguments, prepare
from twofold_cli.state import StateDirectory, running_cluster

app = typer.Typer(
    help="Serve a language model with prefill and decode apart, on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench.app, name="bench")
app.command(name="plan", no_args_is_help=True)(plan.plan)
app.add_typer(kv_commands.app, name="kv")

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


@app.command()
def down() -> None:
    """Stop the cluster."""
    from twofold_cli.stopping import down as stop

    stop(_directory(), Console())


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of the answer.")] = 256,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help=f"With the API key, if the router wants one; else ${KEY_VARIABLE}."),
    ] = None,
) -> None:
    """Ask the cluster. Without a prompt: what is piped in, or on a terminal a conversation."""
    from twofold_cli import chat as asking

    console = Console()
    question = asking.question_of(prompt, sys.stdin)
    key = user_key(api_key_file, os.environ)
    cluster = running_cluster(_directory())
    if question is None:
        asking.converse(cluster, key=key, max_tokens=max_tokens, console=console)
    else:
        asking.chat(cluster, question, key=key, max_tokens=max_tokens, console=console)


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
