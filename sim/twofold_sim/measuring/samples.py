"""The load of each worker over time."""

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec


class Samples(msgspec.Struct, kw_only=True):
    """The tokens that were pending at each worker, seen again and again after the same time.

    Pending are the uncached tokens of those who wait for the worker or are being computed by it.
    Invariant: ``pending_tokens[n][w]`` is of the moment ``n * interval_seconds`` and of
    ``worker_ids[w]``; None, or nothing at the end of a row, is of a worker that was not there.
    """

    interval_seconds: float
    worker_ids: list[str] = []
    pending_tokens: list[list[float | None]] = []

    def take(self, pending_tokens: Mapping[str, float]) -> None:
        """Add a moment; *pending_tokens* by worker id, of those that are there."""
        row: list[float | None] = [pending_tokens.get(worker_id) for worker_id in self.worker_ids]
        if len(pending_tokens) > len(row) - row.count(None):
            known = set(self.worker_ids)
            joined = [worker_id for worker_id in pending_tokens if worker_id not in known]
            self.worker_ids += joined
            row += [pending_tokens[worker_id] for worker_id in joined]
        self.pending_tokens.append(row)

    def moments(self) -> Iterator[tuple[float, list[float]]]:
        """Yield each moment, in seconds, with what was pending at those who were there."""
        for number, row in enumerate(self.pending_tokens):
            yield (
                number * self.interval_seconds,
                [tokens for tokens in row if tokens is not None],
            )

    def variation(self, start: float = 0.0, end: float = math.inf) -> float | None:
        """Return the coefficient of variation of the pending tokens over the workers: standard
        deviation over mean at one moment, and of that the mean over the moments from *start* to
        *end* at which anything was pending. None if there were none.

        The measure of skew in DualMap (arXiv 2602.06502); 0 is even, the square root of the number
        of workers less one is all at one.
        """
        found = [
            _variation(pending)
            for at, pending in self.moments()
            if start <= at <= end and sum(pending) > 0
        ]
        return math.fsum(found) / len(found) if found else None


def _variation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)) / mean
