"""``twofold kv``: what the workers of the running cluster keep in their caches, and have them do.

What is heavy is imported when a command runs, so that no other command waits for it.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twofold_cli import directories
from twofold_cli.state import StateDirectory

if TYPE_CHECKING:
    from twofold_cli.kv import Answer, Question

DEFAULT_PIN_SECONDS = 3600.0

app = typer.Typer(help="Look into how cache blocks move, and move them.", no_args_is_help=True)


@app.command()
def peers(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show who reads blocks from whom. Exit code 0: all answered, 1: not all, 3: no cluster."""
    from twofold_cli import kv as asking
    from twofold_cli import kv_tables

    _show_answers(asking.ask_peers, kv_tables.show_peers, as_json=as_json)


@app.command()
def leases(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show what blocks are kept for whom. Exit code 0: all answered, 1: not all, 3: no cluster."""
    from twofold_cli import kv as asking
    from twofold_cli import kv_tables

    _show_answers(asking.ask_leases, kv_tables.show_leases, as_json=as_json)


@app.command()
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


@app.command()
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
def pin(
    prompt: Annotated[str, typer.Argument(help="What clients will ask, or how they will begin.")],
    on: Annotated[str, typer.Option(metavar="WORKER", help="Who is to keep it.")],
    seconds: Annotated[
        float, typer.Option(metavar="N", help="For how long; a day at most.")
    ] = DEFAULT_PIN_SECONDS,
    chat: Annotated[
        bool, typer.Option("--chat", help="As the first message of a conversation.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="A LoRA adapter's name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Have a worker keep a prompt in its cache, though nobody asks for it.

    The worker computes what it does not have of it. Exit code 0: it is kept, 1: not, 3: no cluster.
    """
    from twofold_cli import finding, kv_pins

    body = finding.prompt_body(prompt, model=model, is_chat=chat)
    pinned = kv_pins.pin_in_cluster(_directory(), body, on=on, seconds=seconds)
    if as_json:
        print(kv_pins.as_json(pinned))
    else:
        kv_pins.show_pin(pinned, Console())


@app.command()
def unpin(
    request: Annotated[str, typer.Argument(help="What `kv pin` named.")],
    on: Annotated[str, typer.Option(metavar="WORKER", help="Who keeps it.")],
) -> None:
    """End a pin. Exit code 0: ended, 1: there was none, 3: no cluster."""
    from twofold_cli import kv_pins

    kv_pins.unpin_in_cluster(_directory(), request, on=on)


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


def _directory() -> StateDirectory:
    return StateDirectory(directories.state_directory(os.environ))
