"""How many tokens a request will generate, from what recent requests did.

After the "past" half of the Past-Future scheduler (arXiv 2507.10150): output lengths are hard to
predict one by one, but the distribution over a window of recent requests hardly moves from one
window to the next. A new request is taken from that distribution, and one that has generated g
tokens from the part of it beyond g.

Where the paper samples, this takes the expected value: the sum over a batch is what has to fit, a
sum of samples has the same mean with more noise, and a decision stays a function of its input.
"""

from bisect import bisect_right
from collections import deque
from itertools import accumulate

WINDOW = 1000
"""Requests in the distribution, as in the paper."""

PRIOR_OUTPUT_TOKENS = (32, 64, 96, 128, 192, 256, 512, 768)
"""The distribution before any observation: mean 256, between those of Mooncake's public traces of
agents (about 180) and of conversations (about 340). Eight imagined requests, soon outvoted."""

BUCKETS_PER_DOUBLING = 4
"""Of lengths: a request is told from one that is 19 % longer."""

MIN_GROWTH = 1.125
MIN_GROWTH_TOKENS = 16
"""A request that outlived its prediction gets at least this much more, so that predicting again
costs a bounded number of times over its life."""

_DOUBLINGS = 20
_EDGES = tuple(
    2.0 ** (step / BUCKETS_PER_DOUBLING) for step in range(_DOUBLINGS * BUCKETS_PER_DOUBLING + 1)
)
"""Bucket i holds the lengths in [_EDGES[i-1], _EDGES[i]); those over a million share the last."""


class OutputLengths:
    """The recent output lengths of one model, in geometric buckets.

    Invariant: ``_counts`` and ``_tokens`` are, per bucket, the number and the sum of the lengths
    in ``_by_age``; the tails are their sums from a bucket on to the last.
    """

    __slots__ = (
        "_by_age",
        "_counts",
        "_max_model_tokens",
        "_tail_counts",
        "_tail_tokens",
        "_tokens",
    )

    def __init__(self, max_model_tokens: int) -> None:
        """*max_model_tokens* is the longest context of the model: no output is longer."""
        self._max_model_tokens = max_model_tokens
        self._by_age: deque[int] = deque()
        self._counts = [0] * (len(_EDGES) + 1)
        self._tokens = [0] * (len(_EDGES) + 1)
        for output_tokens in PRIOR_OUTPUT_TOKENS:
            self.observe(output_tokens)

    def observe(self, output_tokens: int) -> None:
        """Take in the length of a finished output; the oldest beyond the window is forgotten."""
        if len(self._by_age) == WINDOW:
            self._count(self._by_age.popleft(), -1)
        output_tokens = max(1, min(output_tokens, self._max_model_tokens))
        self._by_age.append(output_tokens)
        self._count(output_tokens, 1)
        self._tail_counts = _tails(self._counts)
        self._tail_tokens = _tails(self._tokens)

    def predict(self, max_output_tokens: int | None) -> float:
        """Expect the length of a new request that generates at most *max_output_tokens*."""
        limit = self._max_model_tokens
        if max_output_tokens is not None and max_output_tokens < limit:
            limit = max(1, max_output_tokens)
        bucket = bisect_right(_EDGES, limit)
        longer = self._tail_counts[bucket + 1]
        within = self._counts[bucket]
        shorter_tokens = self._tail_tokens[0] - self._tail_tokens[bucket]
        cut_tokens = longer * limit + min(self._tokens[bucket], within * limit)
        return (shorter_tokens + cut_tokens) / len(self._by_age)

    def predict_beyond(self, generated_tokens: float) -> float:
        """Expect the whole length of a request that has generated *generated_tokens* already.

        Always more than that: who is still running is not done.
        """
        bucket = bisect_right(_EDGES, generated_tokens)
        if self._tokens[bucket] <= generated_tokens * self._counts[bucket]:
            bucket += 1
        count = self._tail_counts[bucket]
        expected = self._tail_tokens[bucket] / count if count else 0.0
        return max(expected, generated_tokens * MIN_GROWTH, generated_tokens + MIN_GROWTH_TOKENS)

    def _count(self, output_tokens: int, sign: int) -> None:
        bucket = bisect_right(_EDGES, output_tokens)
        self._counts[bucket] += sign
        self._tokens[bucket] += sign * output_tokens


def _tails(values: list[int]) -> list[int]:
    """Sum *values* from each index to the end; one more for the empty tail."""
    sums = list(accumulate(reversed(values), initial=0))
    sums.reverse()
    return sums
