import json

import pytest
from tests.unit.cli.test_kv import console, lines

from twofold_cli.kv_tables import show_pull
from twofold_cli.pull_reports import Report, as_json, exit_code, outcome_name
from twofold_cluster.identity import WorkerId
from twofold_cluster.rpc import kvtransfer_pb2 as pb


def a_report(outcome: str, *, cached: int = 0, blocks: int = 0) -> Report:
    return Report(
        target=WorkerId("d-0"),
        source=WorkerId("p-0"),
        outcome=outcome,
        token_count=70,
        wanted_token_count=64,
        cached_token_count=cached,
        pulled_block_count=blocks,
    )


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (a_report("pulled", cached=48, blocks=3), 0),
        (a_report("present", cached=64), 0),
        (a_report("late", cached=64), 0),
        (a_report("no_room", cached=48), 1),
        (a_report("late", cached=48), 1),
        (a_report("unclear", cached=48, blocks=3), 1),
    ],
)
def test_the_exit_code_tells_whether_it_was_pulled_or_there(what: Report, code: int) -> None:
    assert exit_code(what) == code


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (a_report("pulled", blocks=3), "d-0 has pulled 3 blocks from p-0"),
        (
            a_report("absent"),
            "d-0 has pulled nothing from p-0 (absent): it does not hold the first block wanted",
        ),
        (a_report("13"), "d-0 has pulled nothing from p-0 (13): 13"),
        (
            a_report("unclear", blocks=3),
            "d-0 has pulled for others as well, and not all with the same outcome",
        ),
        (a_report("present", cached=64), "d-0 had all that it could pull from p-0"),
        (
            a_report("no_room", cached=63),
            "d-0 has pulled nothing from p-0 (no_room): its own cache has too little room free",
        ),
    ],
)
def test_people_see_what_came_of_it(what: Report, told: str) -> None:
    screen = console()

    show_pull(what, screen)

    assert lines(screen)[0] == told


def test_an_outcome_is_a_word_and_that_of_a_later_version_a_number() -> None:
    assert outcome_name(pb.PULL_OUTCOME_NO_ROOM) == "no_room"
    assert outcome_name(99) == "99"


def test_people_see_how_much_was_not_computed() -> None:
    screen = console()

    show_pull(a_report("pulled", cached=48, blocks=3), screen)

    assert lines(screen)[1] == (
        "48 of the prompt's 70 tokens were in its cache then; it has computed the others"
    )


def test_machines_get_the_same_as_people() -> None:
    assert json.loads(as_json(a_report("pulled", cached=48, blocks=3))) == {
        "target": "d-0",
        "source": "p-0",
        "outcome": "pulled",
        "token_count": 70,
        "wanted_token_count": 64,
        "cached_token_count": 48,
        "pulled_block_count": 3,
    }
