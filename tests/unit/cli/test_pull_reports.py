import json
from collections import Counter

import pytest
from tests.unit.cli.test_finding import D0, P0
from tests.unit.cli.test_kv import console, lines

from twofold_cli.kv_tables import show_pull
from twofold_cli.pull_reports import Counters, Report, as_json, exit_code, read_counters, report

PAGE = """\
# HELP twofold_kv_prefix_pulls_total Requests.
# TYPE twofold_kv_prefix_pulls_total counter
twofold_kv_prefix_pulls_total{engine="0",model_name="m",outcome="pulled"} 2.0
twofold_kv_prefix_pulls_total{engine="1",model_name="m",outcome="pulled"} 1.0
twofold_kv_prefix_pulls_total{engine="0",model_name="m",outcome="late"} 4.0
# HELP twofold_kv_prefix_pulls_created Requests.
# TYPE twofold_kv_prefix_pulls_created gauge
twofold_kv_prefix_pulls_created{engine="0",model_name="m",outcome="pulled"} 1.7e+09
# HELP twofold_kv_prefix_blocks_total Blocks.
# TYPE twofold_kv_prefix_blocks_total counter
twofold_kv_prefix_blocks_total{engine="0",model_name="m"} 5.0
twofold_kv_prefix_blocks_total{engine="1",model_name="m"} 2.0
"""


def a_report(pulls: dict[str, int], *, cached: int = 0, blocks: int = 0) -> Report:
    return Report(
        target=D0,
        source=P0,
        token_count=70,
        wanted_token_count=64,
        cached_token_count=cached,
        pulled_block_count=blocks,
        pulls=pulls,
    )


def test_counters_are_summed_over_engines() -> None:
    assert read_counters(PAGE) == Counters(Counter({"pulled": 3, "late": 4}), 7)


def test_what_a_page_does_not_show_counts_as_none() -> None:
    assert read_counters("# EOF\n") == Counters(Counter(), 0)


def test_a_report_is_of_what_was_counted_meanwhile() -> None:
    before = Counters(Counter({"pulled": 3, "late": 4}), 7)
    after = Counters(Counter({"pulled": 4, "late": 4}), 11)

    what = report(
        before,
        after,
        target=D0,
        source=P0,
        token_count=70,
        wanted_token_count=64,
        cached_token_count=64,
    )

    assert what == a_report({"pulled": 1}, cached=64, blocks=4)


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (a_report({"pulled": 1}, cached=48, blocks=3), 0),
        (a_report({"pulled": 2}, cached=48, blocks=6), 0),
        (a_report({}, cached=64), 0),
        (a_report({"late": 1}, cached=64), 0),
        (a_report({}, cached=48), 1),
        (a_report({"late": 1}, cached=48), 1),
        (a_report({"late": 1, "pulled": 1}, cached=48, blocks=3), 1),
    ],
)
def test_the_exit_code_tells_whether_it_was_pulled_or_there(what: Report, code: int) -> None:
    assert exit_code(what) == code


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (a_report({"pulled": 1}, blocks=3), "d-0 has pulled 3 blocks from p-0"),
        (
            a_report({"absent": 1}),
            "d-0 has pulled nothing from p-0 (absent): it does not hold the first block wanted",
        ),
        (a_report({"new": 1}), "d-0 has pulled nothing from p-0 (new): new"),
        (
            a_report({"pulled": 2, "late": 1}, blocks=3),
            "d-0 has pulled for others as well, which cannot be told apart: late 1, pulled 2",
        ),
        (a_report({}, cached=64), "d-0 had all that it could pull from p-0"),
        (
            a_report({}, cached=63),
            "d-0 has not tried to pull from p-0: its cache has too little room free",
        ),
    ],
)
def test_people_see_what_came_of_it(what: Report, told: str) -> None:
    screen = console()

    show_pull(what, screen)

    assert lines(screen)[0] == told


def test_people_see_how_much_was_not_computed() -> None:
    screen = console()

    show_pull(a_report({"pulled": 1}, cached=48, blocks=3), screen)

    assert lines(screen)[1] == (
        "48 of the prompt's 70 tokens were in its cache then; it has computed the others"
    )


def test_machines_get_the_same_as_people() -> None:
    assert json.loads(as_json(a_report({"pulled": 1}, cached=48, blocks=3))) == {
        "target": "d-0",
        "source": "p-0",
        "token_count": 70,
        "wanted_token_count": 64,
        "cached_token_count": 48,
        "pulled_block_count": 3,
        "pulls": {"pulled": 1},
    }
