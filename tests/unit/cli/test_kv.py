import io
import json

import pytest
from rich.console import Console

from twofold_cli.kv import Answer, as_json, exit_code, state_name
from twofold_cli.kv_tables import show_leases, show_peers, size
from twofold_cluster.rpc import kvtransfer_pb2 as pb

PEERS = pb.PeersReply(
    worker="d-0",
    incarnation="7",
    transport="tcp",
    links=[
        pb.Link(
            worker="p-0",
            incarnation="3",
            address="127.0.0.1:5600",
            open_seconds=90.0,
            transfers_done=12,
            transfers_failed=1,
            read_bytes=5_000_000_000,
            read_seconds=2.0,
            bytes_per_second=2.5e9,
            lease_count=4,
        )
    ],
    readers=[pb.Reader(worker="d-1", incarnation="1", rank=3, connected_seconds=5.0)],
)
LEASES = pb.LeasesReply(
    worker="p-0",
    incarnation="3",
    promised_count=1,
    held_count=5,
    pinned_count=1,
    leases=[
        pb.Lease(request_id="[a]", state=pb.LEASE_STATE_PROMISED),
        pb.Lease(
            request_id="b",
            state=pb.LEASE_STATE_ENDING,
            left_seconds=12.4,
            age_seconds=100.0,
            readers=[pb.LeaseReader(worker="d-0"), pb.LeaseReader(worker="d-1", rank=1)],
        ),
        pb.Lease(
            request_id="c",
            state=pb.LEASE_STATE_HELD,
            left_seconds=240.0,
            age_seconds=30.0,
            pinned_seconds=240.0,
        ),
    ],
)
SILENT = Answer("p-1", problem="no answer from 127.0.0.1:1: [refused]")
OTHER = Answer("p-2", problem="another connector than twofold", is_expected=True)


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def lines(console: Console) -> list[str]:
    """Return what was printed, without the blanks that align it."""
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_people_see_who_reads_from_whom() -> None:
    screen = console()

    show_peers([Answer("d-0", reply=PEERS), SILENT, OTHER], screen)

    _, link, reader, silent, other = lines(screen)
    assert link == "d-0 reads p-0 1m tcp 5 GB 2.5 GB/s 12+1 4"
    assert reader == "d-0 lends d-1 rank 3 5s tcp"
    assert silent == "p-1: no answer from 127.0.0.1:1: [refused]"
    assert other == "p-2: another connector than twofold"


def test_people_see_what_is_kept_for_whom() -> None:
    screen = console()

    show_leases([Answer("p-0", 1, LEASES)], screen)

    _, promised, ending, pinned, more = lines(screen)
    assert promised == "p-0 rank 1 [a] promised"
    assert ending == "p-0 rank 1 b ending 12s 1m d-0, d-1 rank 1"
    assert pinned == "p-0 rank 1 c held, pinned 4m 4m 30s"
    assert more == "p-0 rank 1: 3 leases more"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([Answer("p-0", reply=pb.PeersReply())], ["no worker reads from another"]),
        ([OTHER], ["p-2: another connector than twofold"]),
    ],
)
def test_no_peers_are_told_of_only_where_somebody_answers(
    answers: list[Answer], told: list[str]
) -> None:
    screen = console()

    show_peers(answers, screen)

    assert lines(screen) == told


def test_no_leases_are_told_of() -> None:
    screen = console()

    show_leases([Answer("p-0", reply=pb.LeasesReply())], screen)

    assert lines(screen) == ["no blocks are kept for anybody"]


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([], 0),
        ([Answer("d-0", reply=PEERS), OTHER], 0),
        ([Answer("d-0", reply=PEERS), SILENT], 1),
    ],
)
def test_the_exit_code_tells_whether_all_have_answered(answers: list[Answer], code: int) -> None:
    assert exit_code(answers) == code


def test_machines_get_numbers_absence_and_states_by_name() -> None:
    told = json.loads(as_json([Answer("p-0", reply=LEASES), SILENT]))["workers"]

    assert (told[0]["held_count"], told[0]["pinned_count"]) == (5, 1)
    assert told[0]["leases"][0] == {
        "request_id": "[a]",
        "state": "promised",
        "left_seconds": None,
        "age_seconds": None,
        "readers": [],
        "pinned_seconds": None,
    }
    assert told[0]["leases"][2]["pinned_seconds"] == 240.0
    assert told[0]["leases"][1]["readers"][1] == {"worker": "d-1", "incarnation": "", "rank": 1}
    assert told[1] == {"worker": "p-1", "rank": 0, "problem": SILENT.problem}


def test_machines_get_sizes_as_numbers() -> None:
    told = json.loads(as_json([Answer("d-0", reply=PEERS)]))["workers"][0]

    assert told["links"][0]["read_bytes"] == 5_000_000_000
    assert (told["worker"], told["rank"], told["problem"]) == ("d-0", 0, None)


def test_a_state_of_a_later_version_is_a_number() -> None:
    assert state_name(pb.LEASE_STATE_HELD) == "held"
    assert state_name(77) == "77"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (1536, "1.54 kB"), (2e13, "20 TB")],
)
def test_sizes_have_three_digits(size_bytes: float, text: str) -> None:
    assert size(size_bytes) == text
