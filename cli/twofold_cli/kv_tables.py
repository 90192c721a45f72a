"""What engines say of peers, leases and prefixes, for people."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twofold_cli.kv import Answer, state_name
from twofold_cli.pull_reports import Report
from twofold_cli.showing import age, say
from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_engine.prefixes.finding import Found

Row = tuple[str, ...]

PEER_COLUMNS = ("worker", "", "peer", "for", "over", "read", "speed", "ok+bad", "leases")
LEASE_COLUMNS = ("worker", "request", "state", "left", "age", "readers")
SHARE_COLUMNS = ("worker", "role", "tokens", "share", "tier")

_NOT_PULLED = {
    "absent": "it does not hold the first block wanted",
    "slower": "the link between them is too slow",
    "changed": "it has used these blocks for something else meanwhile",
    "failed": "it cannot be reached, or the blocks did not arrive",
    "damaged": "the blocks arrived otherwise than they were sent",
    "late": "the blocks did not arrive in time",
    "avoided": "it did not answer of late, and was not asked again",
    "no_room": "its own cache has too little room free",
}


def show_peers(answers: list[Answer], console: Console) -> None:
    _show(answers, PEER_COLUMNS, _peer_rows, "no worker reads from another", console)


def show_leases(answers: list[Answer], console: Console) -> None:
    _show(answers, LEASE_COLUMNS, _lease_rows, "no blocks are kept for anybody", console)
    for answer in answers:
        if isinstance(answer.reply, pb.LeasesReply):
            total = answer.reply.promised_count + answer.reply.held_count
            more = total - len(answer.reply.leases)
            if more > 0:
                say(console, f"{_name(answer.worker_id, answer.rank)}: {more} leases more")


def show_found(found: Sequence[Found], console: Console) -> None:
    """Show each revision apart; its name is said where there are several."""
    for one in found:
        if len(found) > 1:
            say(console, f"revision {one.revision}:")
        if one.problem is None:
            _show_revision(one, console)
        else:
            say(console, one.problem)


def show_pull(report: Report, console: Console) -> None:
    """Show what was pulled, and what was in the worker's cache when it computed the rest."""
    say(console, _came_of(report))
    was_there = f"{report.cached_token_count} of the prompt's {report.token_count} tokens"
    say(console, f"{was_there} were in its cache then; it has computed the others")


def _came_of(report: Report) -> str:
    target, source, outcome = report.target, report.source, report.outcome
    if outcome == "pulled":
        return f"{target} has pulled {report.pulled_block_count} blocks from {source}"
    if outcome == "present":
        return f"{target} had all that it could pull from {source}"
    if outcome == "unclear":
        return f"{target} has pulled for others as well, and not all with the same outcome"
    why = _NOT_PULLED.get(outcome, outcome)
    return f"{target} has pulled nothing from {source} ({outcome}): {why}"


def _show_revision(found: Found, console: Console) -> None:
    rows = [
        (
            share.worker,
            share.role,
            f"{share.token_count} of {found.token_count}",
            f"{100 * share.token_count // found.token_count} %",
            share.tier,
        )
        for share in found.shares
    ]
    if rows:
        console.print(_table(SHARE_COLUMNS, rows))
    elif found.token_count < found.block_tokens:
        block = f"a block, which has {found.block_tokens}"
        say(console, f"a prompt of {_tokens(found.token_count)} does not fill {block}")
    else:
        start = f"the first {found.block_tokens} of the prompt's {found.token_count} tokens"
        say(console, f"no worker is known to hold {start}")
    for worker in dict.fromkeys(share.worker for share in found.shares if share.degraded):
        say(console, f"{worker}: it may hold more")
    for worker in found.silent:
        say(console, f"{worker}: what it holds is not listed")


def _show(
    answers: list[Answer],
    columns: Row,
    rows: Callable[[Answer], Iterator[Row]],
    nothing: str,
    console: Console,
) -> None:
    found = [row for answer in answers for row in rows(answer)]
    if found:
        console.print(_table(columns, found))
    elif any(answer.reply is not None for answer in answers):
        say(console, nothing)
    for answer in answers:
        if answer.problem:
            say(console, f"{_name(answer.worker_id, answer.rank)}: {answer.problem}")


def _table(columns: Row, rows: Iterable[Row]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in columns:
        # A request's name is to be copied: it is folded where the others are cut.
        table.add_column(name, no_wrap=name != "request", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as texts: a name is not rich's markup
    return table


def _peer_rows(answer: Answer) -> Iterator[Row]:
    reply = answer.reply
    if not isinstance(reply, pb.PeersReply):
        return
    name = _name(answer.worker_id, answer.rank)
    for link in reply.links:
        yield (
            name,
            "reads",
            link.worker,
            age(link.open_seconds),
            reply.transport,
            size(link.read_bytes),
            f"{size(link.bytes_per_second)}/s" if link.HasField("bytes_per_second") else "",
            f"{link.transfers_done}+{link.transfers_failed}",
            str(link.lease_count),
        )
    for reader in reply.readers:
        peer = _name(reader.worker, reader.rank)
        row = (name, "lends", peer, age(reader.connected_seconds), reply.transport)
        yield row + ("",) * (len(PEER_COLUMNS) - len(row))


def _lease_rows(answer: Answer) -> Iterator[Row]:
    reply = answer.reply
    if not isinstance(reply, pb.LeasesReply):
        return
    for lease in reply.leases:
        yield (
            _name(answer.worker_id, answer.rank),
            lease.request_id,
            _state(lease),
            age(lease.left_seconds) if lease.HasField("left_seconds") else "",
            age(lease.age_seconds) if lease.HasField("age_seconds") else "",
            ", ".join(_name(reader.worker, reader.rank) for reader in lease.readers),
        )


def _state(lease: pb.Lease) -> str:
    state = state_name(lease.state)
    if not lease.HasField("pinned_seconds"):
        return state
    return f"{state}, pinned {age(lease.pinned_seconds)}"


def _name(worker: str, rank: int) -> str:
    return f"{worker} rank {rank}" if rank else worker


def _tokens(count: int) -> str:
    return f"{count} token{'s' * (count != 1)}"


def size(size_bytes: float) -> str:
    """Return *size_bytes* with three digits, in units of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.4g} TB"
