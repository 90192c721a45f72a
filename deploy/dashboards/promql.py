"""Expressions that the dashboards share."""

from deploy.dashboards.panels import Query

ROUTER = "twofold_router_"

CHOSEN = 'namespace=~"$namespace",service=~"$service"'
"""What the variables at the top of a dashboard select."""

_SEVERAL = '{__name__=~"'

WINDOW = "$__rate_interval"


def chosen(metric: str, *matchers: str) -> str:
    """Select the series of *metric* that the variables name, and *matchers* besides."""
    return f"{metric}{{{','.join((CHOSEN, *matchers))}}}"


def either(*metrics: str, matchers: str = CHOSEN) -> str:
    """Select of *metrics*, which mean the same: each engine has one."""
    names = f'__name__=~"{"|".join(metrics)}"'
    return f"{{{names},{matchers}}}" if matchers else f"{{{names}}}"


def part_of(histogram: str, part: str) -> str:
    """Select the *part* of a *histogram*, or of each of several: ``bucket``, ``sum``, ``count``."""
    if histogram.startswith(_SEVERAL):
        names, _, matchers = histogram.removeprefix(_SEVERAL).partition('"')
        return f'{_SEVERAL}{"|".join(f"{name}_{part}" for name in names.split("|"))}"{matchers}'
    name, _, matchers = histogram.partition("{")
    return f"{name}_{part}{{{matchers}"


def router(metric: str, *matchers: str) -> str:
    return chosen(ROUTER + metric, *matchers)


def rate(series: str, by: str = "") -> str:
    """Sum the rates of *series* over all labels but *by*."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({series}[{WINDOW}]))"


def share(part: str, whole: str) -> str:
    """Divide the rates of two selections; nothing of the part is a share of 0."""
    return f"({rate(part)} or vector(0)) / {rate(whole)}"


def mean(histogram: str) -> str:
    """Return the mean of *histogram*, a name with its selector."""
    return f"{rate(part_of(histogram, 'sum'))} / {rate(part_of(histogram, 'count'))}"


def quantile(fraction: float, histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({fraction:g}, {rate(part_of(histogram, 'bucket'), labels)})"


def quantiles(histogram: str, *fractions: float) -> tuple[Query, ...]:
    return tuple(
        Query(quantile(fraction, histogram), f"p{fraction * 100:g}") for fraction in fractions
    )
