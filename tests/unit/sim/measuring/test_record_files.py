"""What is kept of a run."""

from pathlib import Path

import msgspec
import pytest

from twofold_sim.measuring import (
    Goodput,
    Record,
    Samples,
    Served,
    Slo,
    measure,
    read_records,
    write_records,
)


def record(samples: Samples | None = None) -> Record:
    served = [
        Served(number=0, at=0.0, prompt_tokens=10, ttft_seconds=1.0, end_seconds=1.0),
        Served(number=1, at=1.0, prompt_tokens=20, refused="lost"),
    ]
    return Record(
        policy="twofold",
        workload="synthetic-agent",
        workers=8,
        qps=7.5,
        slo=Slo(ttft_seconds_per_token=0.1),
        setup={"seconds_per_token": 0.00016, "on_long": "drop", "requests": None},
        measures=measure(served, Slo(), samples=samples),
        samples=samples,
    )


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    samples = Samples(interval_seconds=1.0)
    samples.take({"a": 1.0})
    samples.take({"b": 2.0})
    records = [record(), record(samples)]
    path = tmp_path / "records.json"

    write_records(path, "twofold bench replay", records)
    found = read_records(path)

    assert found.records == records
    assert found.command == "twofold bench replay"
    assert found.goodputs == []


def test_what_is_0_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    write_records(path, "twofold bench replay", [record()])

    [told] = msgspec.json.decode(path.read_bytes())["records"]
    assert (told["seed"], told["decode_workers"]) == (0, 0)
    assert set(Record.__struct_fields__) - set(told) == {"samples"}


def test_a_sweep_has_its_goodput_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    late = [record(), msgspec.structs.replace(record(), qps=8.0)]
    write_records(path, "twofold bench replay", [*late, *(on_time(each) for each in late)])

    slow, quick = read_records(path).goodputs

    assert (slow.by_seed, slow.median) == ({0: Goodput(None)}, Goodput(None))
    assert quick.by_seed == {1: Goodput(8.0, is_bound=True)}
    assert quick.median == quick.by_seed[1]
    assert (quick.policy, quick.setup, quick.slo) == ("quick", late[0].setup, late[0].slo)


def on_time(late: Record) -> Record:
    served = [Served(number=0, at=0.0, prompt_tokens=10, ttft_seconds=1.0, end_seconds=1.0)]
    return msgspec.structs.replace(late, policy="quick", seed=1, measures=measure(served, Slo()))


def test_another_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    path.write_text("{}")

    with pytest.raises(msgspec.DecodeError):
        read_records(path)
