import math

from benchmarks.report import Goal, table


def test_a_goal_is_met_up_to_its_limit() -> None:
    assert Goal("g", 0.8, 0.8).met
    assert not Goal("g", 0.81, 0.8).met


def test_what_could_not_be_measured_meets_nothing() -> None:
    assert not Goal("g", math.nan, 0.8).met
    assert not Goal("g", 0.1, math.nan).met


def test_a_table_shows_figures_as_one_reads_them() -> None:
    rendered = table(
        ("name", "value"), [("a", 0.123456), ("b", 12345.6), ("c", math.nan), ("d", 7)]
    )

    assert rendered.splitlines() == [
        "| name | value |",
        "| --- | ---: |",
        "| a | 0.123 |",
        "| b | 12,346 |",
        "| c | - |",
        "| d | 7 |",
    ]
