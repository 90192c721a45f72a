"""Expressions that the dashboards share."""

from deploy.dashboards.panels import Query

ROUTER = "twofold_router_"

CHOSEN = 'namespace=~"$namespace",service=~"$service"'
"""What the variables at the top of a dashboard select."""

WINDOW = "$__rate_interval"


def chosen(metric: str, *matchers: str) -> str:
    """Select the series of *metric* that the variables name, and *matchers* besides."""
    return f"{metric}{{{','.join((CHOSEN, *matchers))}}}"


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
    name, _, matchers = histogram.partition("{")
    return f"{rate(f'{name}_sum{{{matchers}')} / {rate(f'{name}_count{{{matchers}')}"


def quantile(fraction: float, histogram: str, by: str = "") -> str:
    name, _, matchers = histogram.partition("{")
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({fraction:g}, {rate(f'{name}_bucket{{{matchers}', labels)})"


def quantiles(histogram: str, *fractions: float) -> tuple[Query, ...]:
    return tuple(
        Query(quantile(fraction, histogram), f"p{fraction * 100:g}") for fraction in fractions
    )
