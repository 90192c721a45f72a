"""Pictures and the report."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from twofold_sim.measuring import Record, Samples, Served, Slo, measure
from twofold_sim.picturing import draw, write_pictures, write_report
from twofold_sim.picturing.pictures import capacity, hit_rate, load, ttft
from twofold_sim.picturing.scenes import scenes
from twofold_sim.workloads import LongPrompts

PNG = b"\x89PNG\r\n\x1a\n"


def record(
    policy: str,
    qps: float,
    seed: int = 0,
    *,
    on_time: int = 6,
    refused: int = 0,
    workers: int = 2,
    sampled: bool = True,
) -> Record:
    served = [
        Served(
            number=number,
            at=float(number),
            prompt_tokens=1000 + number,
            cached_tokens=number * 10,
            ttft_seconds=1.0 + 0.1 * number if number < on_time else 20.0 + seed,
            end_seconds=30.0,
            output_tokens=3,
            prefill="p0",
        )
        for number in range(10 - refused)
    ]
    served += [
        Served(number=number, at=9.0, prompt_tokens=500, refused="overloaded")
        for number in range(10 - refused, 10)
    ]
    samples = Samples(interval_seconds=1.0)
    for moment in range(10):
        samples.take({f"w{number}": 1000.0 * moment + number for number in range(workers)})
    return Record(
        policy=policy,
        workload="synthetic-agent",
        workers=workers,
        qps=qps,
        seed=seed,
        slo=Slo(),
        setup={"seconds_per_token": 0.00016},
        measures=measure(served, Slo(), samples=samples, hit_rate_ceiling=0.4),
        samples=samples if sampled else None,
    )


def sweep() -> list[Record]:
    return [
        record(policy, qps, seed, on_time=round(10 - qps / 2))
        for policy in ("twofold", "min-ttft", "my <own>")
        for qps in (2.0, 4.0, 6.0, 8.0)
        for seed in (0, 1)
    ]


def test_a_sweep_has_four_pictures(tmp_path: Path) -> None:
    paths = write_pictures(sweep(), tmp_path / "new" / "folder")

    names = [path.name for path in paths]
    kinds = ("capacity", "ttft", "hit-rate", "load")
    assert names == [f"{kind}-synthetic-agent-2-workers.png" for kind in kinds]
    assert all(path.read_bytes().startswith(PNG) for path in paths)


def test_the_same_records_give_the_same_bytes() -> None:
    assert list(draw([record("twofold", 2.0)])) == list(draw([record("twofold", 2.0)]))


def test_the_lines_are_the_medians_of_the_seeds() -> None:
    records = [
        record("twofold", 2.0, seed, on_time=number) for seed, number in enumerate((9, 1, 5))
    ]
    (scene,) = scenes([*records, record("twofold", 3.0, on_time=4)])
    axes = capacity(scene).axes[0]

    points = np.asarray(axes.get_lines()[0].get_xydata())

    assert points.tolist() == [[2.0, 0.5], [3.0, 0.4]]


def test_each_line_has_its_name_at_its_end() -> None:
    (scene,) = scenes(sweep())

    for picture in (capacity, hit_rate):
        texts = [text.get_text() for text in picture(scene).axes[0].texts]
        assert {"twofold", "min-ttft", "my <own>"} <= set(texts)


def test_the_distribution_ends_below_one_when_somebody_was_refused() -> None:
    (scene,) = scenes([record("twofold", 2.0, refused=4)])

    heights = np.asarray(ttft(scene).axes[0].get_lines()[0].get_ydata())

    assert heights.max() == pytest.approx(0.6)


def test_the_load_is_drawn_for_each_worker_or_for_many_as_a_band() -> None:
    (few,) = scenes([record("twofold", 2.0, workers=3)])
    (many,) = scenes([record("twofold", 2.0, workers=40)])
    few_load, many_load = load(few), load(many)

    assert few_load is not None
    assert many_load is not None
    assert len(few_load.axes[0].get_lines()) == 3
    assert len(many_load.axes[0].get_lines()) == 1


def test_without_samples_there_is_no_picture_of_the_load() -> None:
    records = [record("twofold", 2.0, sampled=False)]

    names = [picture.name.split("-")[0] for picture in draw(records)]
    assert names == ["capacity", "ttft", "hit"]


def test_a_single_run_that_served_nobody_can_be_drawn() -> None:
    assert len(list(draw([record("twofold", 2.0, refused=10)]))) == 4


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(sweep(), path, "twofold bench replay --trace <x>")
    return path.read_text()


def test_the_report_is_one_file_that_refers_to_nothing_outside(html: str) -> None:
    assert not re.search(r"https?:|<script|<link|@import|url\(", html)
    assert re.findall(r'src="([^"]{22})', html) == ["data:image/png;base64,"] * 4


def test_the_report_says_which_command_made_it(html: str) -> None:
    assert "twofold bench replay --trace &lt;x&gt;" in html


def test_names_are_no_markup_in_the_report(html: str) -> None:
    assert "my &lt;own&gt;" in html
    assert "<own>" not in html


def test_the_report_has_a_line_for_each_record(html: str) -> None:
    assert html.count("<td>twofold</td>") == 1 + 2 * 8
    assert "seconds_per_token 0.00016" in html


def test_the_report_says_once_what_was_cut_of_the_workload(tmp_path: Path) -> None:
    long_prompts = LongPrompts(count=3, total=12, most_tokens=20_480, on_long="drop")
    records = [replace(record("twofold", qps), long_prompts=long_prompts) for qps in (2.0, 3.0)]

    write_report(records, tmp_path / "report.html", "twofold bench replay")

    assert (tmp_path / "report.html").read_text().count(f"<p>{long_prompts}.</p>") == 1


def test_the_report_says_once_that_there_are_fewer_requests_than_asked_for(tmp_path: Path) -> None:
    records = [replace(record("twofold", qps), setup={"requests": 900}) for qps in (2.0, 3.0)]

    write_report(records, tmp_path / "report.html", "twofold bench replay")

    assert (tmp_path / "report.html").read_text().count("of the 900 that were asked for") == 1


def test_matplotlib_is_imported_by_drawing_only() -> None:
    code = (
        "import sys, twofold_sim.picturing as p; assert 'matplotlib' not in sys.modules; "
        "list(p.draw([])); assert 'matplotlib' in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
