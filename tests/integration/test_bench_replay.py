"""``twofold bench replay`` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ("--trace", "synthetic-agent", "--requests", "200", "--warm-up", "20", "--workers", "2")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twofold_cli", "bench", "replay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_sweep_tells_of_each_run_and_shows_a_table_and_writes_its_records(
    tmp_path: Path,
) -> None:
    path = tmp_path / "records.json"
    policies = ("--policy", "twofold,round-robin", "--qps", "2,6")
    done = bench(*SMALL, *policies, "--json", str(path))

    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 4
    assert done.stderr.startswith("[1/4] twofold, 2 workers, 2 a second, seed 0: ")
    assert "| twofold " in done.stdout
    found = json.loads(path.read_bytes())
    assert found["command"].startswith("twofold bench replay --trace synthetic-agent")
    records = found["records"]
    assert [(each["policy"], each["qps"]) for each in records] == [
        ("twofold", 2.0),
        ("round-robin", 2.0),
        ("twofold", 6.0),
        ("round-robin", 6.0),
    ]
    assert all(each["measures"]["everyone"]["request_count"] == 200 for each in records)


def test_the_same_seed_gives_the_same_figures(tmp_path: Path) -> None:
    paths = [tmp_path / "one.json", tmp_path / "other.json"]
    for path in paths:
        trouble = ("--replicas", "2", "--report-delay-ms", "50,1000", "--report-loss", "0.1")
        chosen = ("--policy", "two-random,dual-map", "--qps", "5", "--mispredicted", "0.2")
        done = bench(*SMALL, *chosen, *trouble, "--json", str(path))
        assert done.returncode == 0, done.stderr

    one, other = (json.loads(path.read_bytes())["records"] for path in paths)
    assert [each["measures"] for each in one] == [each["measures"] for each in other]


def test_a_whole_cluster_prefills_transfers_and_decodes(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    cluster = ("--profile", "llama2-70b-h100-tp4", "--decode", "2", "--incident", "die:p1@20")
    done = bench(*SMALL, *cluster, "--policy", "twofold", "--qps", "1", "--json", str(path))

    assert done.returncode == 0, done.stderr
    [record] = json.loads(path.read_bytes())["records"]
    everyone = record["measures"]["everyone"]
    assert (record["workers"], record["decode_workers"]) == (2, 2)
    assert everyone["refusals"] == {}
    assert everyone["transferred_count"] > 150
    assert everyone["tpot_seconds"]["p50"] > 0.02


def test_pictures_are_drawn_into_a_folder_and_a_report(tmp_path: Path) -> None:
    html, png = tmp_path / "report.html", tmp_path / "pictures"
    outputs = ("--html", str(html), "--png", str(png))
    done = bench(*SMALL, "--policy", "twofold,min-ttft", "--qps", "2,4", *outputs)

    assert done.returncode == 0, done.stderr
    assert html.read_text().count("<img") == len(list(png.glob("*.png"))) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--trace", "nowhere.jsonl", "--qps", "5"), "nowhere.jsonl: No such file"),
        ((*SMALL, "--qps", "5", "--policy", "fastest"), "'fastest' is no policy; known are "),
        ((*SMALL, "--qps", "five"), "--qps is 'five', and must be numbers like 8,16,32"),
        ((*SMALL, "--qps", "5", "--decode", "2"), "--decode needs a --profile"),
        ((*SMALL, "--qps", "5", "--profile", "unheard-of"), "'unheard-of' is no built-in profile"),
        ((*SMALL, "--qps", "5", "--incident", "die:p7@9"), "p7 is not there at 9 s"),
        ((*SMALL, "--qps", "5", "--incident", "fire"), "'fire' is no incident"),
        ((*SMALL, "--qps", "5", "--json", "/nowhere/a.json"), "--json: /nowhere/a.json"),
        ((*SMALL, "--qps", "5", "--seconds-per-token", "0"), "--seconds-per-token"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = bench(*arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("twofold: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
