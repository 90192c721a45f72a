"""The records as tables to read, in Markdown."""

from collections.abc import Iterable, Iterator, Sequence

from twofold_sim.measuring.conditions import differences, slo_text
from twofold_sim.measuring.goodput import GOOD_SHARE, Goodput, goodputs, middle, rank
from twofold_sim.measuring.quantiles import Quantiles
from twofold_sim.measuring.record import Record

Row = Sequence[object]

HEADERS = (
    "policy",
    "workers",
    "QPS",
    "seed",
    "on time",
    "TTFT p50/p90/p99, s",
    "TPOT p50/p90/p99, ms",
    "end p50/p90/p99, s",
    "hit rate",
    "ceiling",
    "skew",
    "moved",
    "transfers",
    "refused",
)

GOODPUT_HEADERS = (
    "policy",
    "workload",
    "workers",
    "conditions",
    f"QPS at {GOOD_SHARE:g}",
    "lowest",
    "highest",
)

QUARTILE_HEADERS = ("policy", "workers", "QPS", "seed", "shortest", "second", "third", "longest")


def table(records: Iterable[Record]) -> str:
    """Render a line for each record."""
    return render(HEADERS, rows(records))


def goodput_table(records: Sequence[Record]) -> str:
    """Render the goodput of each policy: the median over the seeds and the spread."""
    return render(GOODPUT_HEADERS, goodput_rows(records))


def quartile_table(records: Iterable[Record]) -> str:
    """Render the share on time of each quarter of the requests, by the length of the prompt."""
    return render(QUARTILE_HEADERS, quartile_rows(records))


def rows(records: Iterable[Record]) -> Iterator[Row]:
    for record in records:
        measures = record.measures
        figures = measures.everyone
        yield (
            record.policy,
            _workers(record.workers, record.decode_workers),
            record.qps,
            record.seed,
            figures.slo_share,
            _three(figures.ttft_seconds),
            _three(figures.tpot_seconds, 1000.0),
            _three(figures.end_seconds),
            figures.hit_rate,
            measures.hit_rate_ceiling,
            measures.pending_variation,
            measures.moved_count,
            figures.transferred_count,
            sum(figures.refusals.values()),
        )


def goodput_rows(records: Sequence[Record]) -> Iterator[Row]:
    found = goodputs(records)
    every = list(dict.fromkeys(conditions for conditions, _ in found))
    others = dict(zip(every, differences(every), strict=True))
    for conditions in every:
        slo = slo_text(conditions.slo)
        for (own, policy), by_seed in found.items():
            if own == conditions:
                seeds = list(by_seed.values())
                yield (
                    policy,
                    conditions.workload,
                    _workers(conditions.workers, conditions.decode_workers),
                    ", ".join(filter(None, (slo, others[conditions]))),
                    _qps(middle(seeds)),
                    _qps(min(seeds, key=rank)),
                    _qps(max(seeds, key=rank)),
                )


def quartile_rows(records: Iterable[Record]) -> Iterator[Row]:
    for record in records:
        shares = [quarter.slo_share for quarter in record.measures.quartiles]
        workers = _workers(record.workers, record.decode_workers)
        yield (record.policy, workers, record.qps, record.seed, *shares)


def render(headers: Row, lines: Iterable[Row]) -> str:
    """Render a Markdown table, the columns as wide as what is in them: the first to the left, the
    others to the right. A line may be short."""
    cells = [[cell(value) for value in line] for line in (headers, *lines)]
    for line in cells:
        line += [""] * (len(headers) - len(line))
    widths = [max(len(line[column]) for line in cells) for column in range(len(headers))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(line, widths) for line in (cells[0], rule, *cells[1:]))


def cell(value: object) -> str:
    """Show three significant digits of a float, and whole numbers from a thousand on."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _qps(goodput: Goodput) -> str:
    if goodput.qps is None:
        return "none"
    return f"≥ {goodput.qps:.2f}" if goodput.is_bound else f"{goodput.qps:.2f}"


def _workers(workers: int, decode_workers: int) -> str:
    return f"{workers} + {decode_workers}" if decode_workers else str(workers)


def _three(found: Quantiles, factor: float = 1.0) -> str:
    parts = (found.p50, found.p90, found.p99)
    if parts[0] is None:
        return "-"
    return " / ".join("-" if part is None else cell(part * factor) for part in parts)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0])]
    padded += [text.rjust(width) for text, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join(padded) + " |"
