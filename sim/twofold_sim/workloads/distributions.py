"""What generated workloads are drawn from."""

import bisect
import itertools
import math
import random
from collections.abc import Callable

Draw = Callable[[random.Random], float]


def gamma_gaps(qps: float, variation: float) -> Draw:
    """Return seconds between arrivals, *qps* a second on average, with *variation* as their
    coefficient of variation: 1 are Poisson's arrivals, more are bursts."""
    assert qps > 0, qps
    assert variation > 0, variation
    shape = 1 / variation**2
    scale = 1 / (qps * shape)
    return lambda rng: rng.gammavariate(shape, scale)


def zipf(count: int, exponent: float) -> Callable[[random.Random], int]:
    """Return numbers from 0 to *count* - 1, the n-th of them with a weight of
    ``(n + 1) ** -exponent``."""
    assert count > 0, count
    sums = list(itertools.accumulate((n + 1) ** -exponent for n in range(count)))
    return lambda rng: min(bisect.bisect(sums, rng.random() * sums[-1]), count - 1)


def zipf_tokens(least: int, most: int, exponent: float) -> Callable[[random.Random], int]:
    """Return lengths from *least* to *most*, n with a weight of ``n ** -exponent``.

    Drawn from the continuous power law between *least* and *most* + 1, whose inverse is known.
    """
    assert 0 < least <= most, (least, most)
    low, high = float(least), float(most + 1)
    if exponent == 1.0:
        ratio = math.log(high / low)
        return lambda rng: min(int(low * math.exp(rng.random() * ratio)), most)
    power = 1.0 - exponent
    start, span = low**power, high**power - low**power

    def draw(rng: random.Random) -> int:
        return min(max(int((start + rng.random() * span) ** (1 / power)), least), most)

    return draw


def lognormal_tokens(mean: float, sigma: float) -> Callable[[random.Random], int]:
    """Return lengths of at least 1 whose mean is *mean* and whose logarithms spread by *sigma*."""
    assert mean >= 1, mean
    middle = math.log(mean) - sigma**2 / 2
    return lambda rng: max(round(rng.lognormvariate(middle, sigma)), 1)
