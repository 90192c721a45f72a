"""The tables."""

from msgspec.structs import replace

from twofold_sim.measuring import (
    Record,
    Served,
    Slo,
    goodput_table,
    measure,
    quartile_table,
    table,
)
from twofold_sim.measuring.tables import cell, render


def record(qps: float = 7.0, on_time: int = 4, *, decode_workers: int = 0, seed: int = 0) -> Record:
    served = [
        Served(
            number=number,
            at=0.0,
            prompt_tokens=1000 * number + 1000,
            cached_tokens=500,
            ttft_seconds=2.0 if number < on_time else 9.0,
            end_seconds=12.0,
            output_tokens=6,
            prefill="p0",
        )
        for number in range(4)
    ]
    return Record(
        policy="min-ttft",
        workload="w",
        workers=8,
        decode_workers=decode_workers,
        qps=qps,
        seed=seed,
        slo=Slo(),
        measures=measure(served, Slo(), hit_rate_ceiling=0.5, moved_count=7),
    )


def lines(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines()]


def test_a_line_says_what_a_run_gave() -> None:
    header, _, line = lines(table([record(on_time=3)]))
    found = dict(zip(header, line, strict=True))

    assert found["policy"] == "min-ttft"
    assert found["on time"] == "0.75"
    assert found["TTFT p50/p90/p99, s"] == "2 / 9 / 9"
    assert found["TPOT p50/p90/p99, ms"] == "2,000 / 2,000 / 2,000"
    assert found["hit rate"] == "0.2"
    assert found["ceiling"] == "0.5"
    assert found["skew"] == "-"
    assert found["moved"] == "7"


def test_a_pair_of_pools_is_told_from_one() -> None:
    assert lines(table([record(decode_workers=4)]))[2][1] == "8 + 4"


def test_the_quarters_stand_beside_each_other() -> None:
    assert lines(quartile_table([record(on_time=3)]))[2][4:] == ["1", "1", "1", "0"]


def test_the_goodput_is_the_lower_median_of_the_seeds() -> None:
    records = [
        record(7.0, 4, seed=0),
        record(8.0, 0, seed=0),
        record(7.0, 0, seed=1),
        record(8.0, 0, seed=1),
        record(7.0, 4, seed=2),
        record(8.0, 4, seed=2),
    ]

    assert lines(goodput_table(records))[2][4:] == ["7.10", "none", "≥ 8.00"]
    assert lines(goodput_table(records[2:]))[2][4:] == ["none", "none", "≥ 8.00"]


def test_the_goodput_says_under_which_conditions() -> None:
    one = record(7.0, 4)
    other = replace(one, setup={"misprediction": 0.2})

    under = [line[3] for line in lines(goodput_table([one, other]))[2:]]

    assert under == ["TTFT within 5 s", "TTFT within 5 s, misprediction 0.2"]


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    text = render(("a", "bb"), [("long name", 1.0), ("x",)])

    assert len({len(line) for line in text.splitlines()}) == 1
    assert lines(text)[-1] == ["x", ""]


def test_numbers_are_shown_as_exactly_as_they_are_worth() -> None:
    assert [cell(value) for value in (0.123456, 12345.6, 7, None, "x")] == [
        "0.123",
        "12,346",
        "7",
        "-",
        "x",
    ]
