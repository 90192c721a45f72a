"""The pictures. Importing this imports matplotlib, which takes a second."""

import math
from collections.abc import Callable, Sequence
from statistics import median

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from twofold_sim.measuring import Record, Samples
from twofold_sim.measuring.goodput import GOOD_SHARE
from twofold_sim.picturing.labels import End, label_ends
from twofold_sim.picturing.scenes import Scene
from twofold_sim.picturing.styles import GREY, Style, styles

WIDTH_INCHES = 8.6
PANEL_INCHES = 2.9
MAX_PANELS = 3
MAX_TICKS = 12
MAX_LINES = 16
"""Workers that are drawn one by one; of more, the middle and how far they spread."""
LEAST_TTFT_SECONDS = 0.01
QUIET_TOKENS = 1_000.0
"""Below this the axis of the load is linear."""


def capacity(scene: Scene) -> Figure:
    """Draw the share that is on time over the QPS, for each policy: the median of the seeds, and
    between which values they are."""
    figure, axes = _plot(scene, "on time", "requests a second")
    _lines(axes, scene, lambda record: record.measures.everyone.slo_share)
    axes.set_ylim(-0.03, 1.03)
    axes.axhline(GOOD_SHARE, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)
    _finish(axes, scene, lambda record: record.measures.everyone.slo_share)
    return figure


def hit_rate(scene: Scene) -> Figure:
    """Draw the hit rate over the QPS, and its ceiling."""
    figure, axes = _plot(scene, "tokens of the prompts found in a cache", "requests a second")
    _lines(axes, scene, lambda record: record.measures.everyone.hit_rate)
    ceilings = [record.measures.hit_rate_ceiling for record in scene.records]
    known = [ceiling for ceiling in ceilings if ceiling is not None]
    rates = [record.measures.everyone.hit_rate for record in scene.records]
    axes.set_ylim(0.0, min(max([*known, *rates, 0.01]) * 1.12, 1.02))
    if known:
        ceiling = median(known)
        axes.axhline(ceiling, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)
        axes.annotate(
            "one cache that forgets nothing",
            (scene.qps[0], ceiling),
            xytext=(0, 3),
            textcoords="offset points",
            color=GREY,
        )
    _finish(axes, scene, lambda record: record.measures.everyone.hit_rate)
    return figure


def ttft(scene: Scene) -> Figure:
    """Draw the distribution of the TTFT at a low, a middle and a high QPS. Whoever got no first
    token is missing at the top."""
    chosen = _some(scene.qps)
    figure = Figure(figsize=(WIDTH_INCHES, 4.3), layout="constrained")
    panels = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    looks = styles(scene.policies)
    for axes, qps in zip(panels, chosen, strict=True):
        for policy in scene.policies:
            record = scene.run(policy, qps)
            if record is not None:
                _distribution(axes, record, looks[policy])
        axes.set_xscale("log")
        axes.set_title(f"{qps:g} requests a second", fontsize="medium")
        axes.set_xlabel("TTFT in seconds")
        if not scene.slo.ttft_seconds_per_token:
            axes.axvline(
                scene.slo.ttft_seconds, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=0
            )
        _dress(axes)
    panels[0].set_ylim(0.0, 1.02)
    panels[0].set_ylabel("requests that had their first token")
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _legend(figure, panels)
    _title(figure, scene)
    return figure


def load(scene: Scene) -> Figure | None:
    """Draw what was pending at each worker over time, a panel for each policy, at the middle one of
    the QPS for which that is known; None if it is not for any."""
    sampled = [record for record in scene.records if record.samples is not None]
    if not sampled:
        return None
    known = sorted({record.qps for record in sampled})
    qps = known[len(known) // 2]
    runs = [scene.run(policy, qps) for policy in scene.policies]
    drawn = [record for record in runs if record is not None and record.samples is not None]
    rows = math.ceil(len(drawn) / MAX_PANELS)
    columns = min(len(drawn), MAX_PANELS)
    height = 0.9 + 2.0 * rows
    figure = Figure(figsize=(PANEL_INCHES * MAX_PANELS, height), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    looks = styles(scene.policies)
    for axes, record in zip(panels, drawn, strict=False):
        assert record.samples is not None
        _load_lines(axes, record.samples, looks[record.policy])
        variation = record.measures.pending_variation
        skew = "" if variation is None else f", skew {variation:.2f}"
        axes.set_title(f"{record.policy}{skew}", fontsize="medium")
        _dress(axes)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    # They share it, so the most of all is known only now.
    most = max(panels[0].get_ylim()[1], 10 * QUIET_TOKENS)
    panels[0].set_yscale("symlog", linthresh=QUIET_TOKENS, linscale=0.5)
    panels[0].set_ylim(0.0, most)
    decades = range(int(math.log10(QUIET_TOKENS)), int(math.log10(most)) + 1)
    panels[0].set_yticks([0.0, *(10.0**decade for decade in decades)])
    figure.supxlabel("seconds", fontsize="medium")
    figure.supylabel("tokens pending at each worker", fontsize="medium")
    _title(figure, scene, f"{qps:g} requests a second")
    return figure


Value = Callable[[Record], float]


def _plot(scene: Scene, y_label: str, x_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _dress(axes)
    _title(figure, scene)
    return figure, axes


def _lines(axes: Axes, scene: Scene, value: Value) -> None:
    looks = styles(scene.policies)
    for policy in scene.policies:
        style = looks[policy]
        found = {qps: [value(run) for run in scene.runs(policy, qps)] for qps in scene.qps}
        tried = [qps for qps, values in found.items() if values]
        axes.plot(
            tried,
            [median(found[qps]) for qps in tried],
            color=style.colour,
            linestyle=style.dash,
            linewidth=style.width,
            marker=style.marker,
            markersize=5,
            clip_on=False,
            zorder=3 if policy == "twofold" else 2,
        )
        if any(len(values) > 1 for values in found.values()):
            axes.fill_between(
                tried,
                [min(found[qps]) for qps in tried],
                [max(found[qps]) for qps in tried],
                color=style.colour,
                alpha=0.15,
                linewidth=0,
            )


def _finish(axes: Axes, scene: Scene, value: Value) -> None:
    looks = styles(scene.policies)
    ends = []
    for policy in scene.policies:
        last = max(record.qps for record in scene.records if record.policy == policy)
        height = median(value(run) for run in scene.runs(policy, last))
        ends.append(End(height, policy, looks[policy]))
    axes.margins(x=0.0)
    if len(scene.qps) <= MAX_TICKS:
        axes.set_xticks(scene.qps, [f"{qps:g}" for qps in scene.qps])
    label_ends(axes, ends)


def _distribution(axes: Axes, record: Record, style: Style) -> None:
    curve = record.measures.ttft_curve
    if not curve:
        return
    everyone = record.measures.everyone
    answered_share = 1 - sum(everyone.refusals.values()) / everyone.request_count
    steps = len(curve) - 1
    axes.plot(
        [max(seconds, LEAST_TTFT_SECONDS) for seconds in curve],
        [answered_share * step / steps for step in range(len(curve))],
        color=style.colour,
        linestyle=style.dash,
        linewidth=style.width,
        label=record.policy,
    )


def _load_lines(axes: Axes, samples: Samples, style: Style) -> None:
    moments = [(at, sorted(pending)) for at, pending in samples.moments() if pending]
    seconds = [at for at, _ in moments]
    if len(samples.worker_ids) <= MAX_LINES:
        for number in range(len(samples.worker_ids)):
            rows = samples.pending_tokens
            values = [row[number] if number < len(row) else None for row in rows]
            tokens = [math.nan if value is None else value for value in values]
            times = [n * samples.interval_seconds for n in range(len(rows))]
            axes.plot(times, tokens, color=style.colour, linewidth=0.6, alpha=0.55)
        return
    lowest = [pending[0] for _, pending in moments]
    highest = [pending[-1] for _, pending in moments]
    axes.fill_between(seconds, lowest, highest, color=style.colour, alpha=0.2, linewidth=0)
    tenths = [_between(pending, 0.1) for _, pending in moments]
    ninths = [_between(pending, 0.9) for _, pending in moments]
    axes.fill_between(seconds, tenths, ninths, color=style.colour, alpha=0.35, linewidth=0)
    axes.plot(seconds, [median(p) for _, p in moments], color=style.colour, linewidth=1.2)


def _between(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _some(values: Sequence[float]) -> list[float]:
    """Choose the first, the middle and the last."""
    if len(values) <= MAX_PANELS:
        return list(values)
    return [values[0], values[len(values) // 2], values[-1]]


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    by_label: dict[str, Artist] = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        by_label |= dict(zip(names, handles, strict=True))
    figure.legend(
        list(by_label.values()),
        list(by_label),
        loc="outside lower center",
        ncols=min(len(by_label), 5) or 1,
        frameon=False,
        fontsize="small",
        handlelength=2.6,
    )


def _dress(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="both", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#444444", labelsize="small")


def _title(figure: Figure, scene: Scene, more: str = "") -> None:
    title = f"{scene.title}, {more}" if more else scene.title
    figure.suptitle(title, fontsize="medium", x=0.01, ha="left", wrap=True)
