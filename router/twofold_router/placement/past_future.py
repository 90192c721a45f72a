"""How much KV cache a decode worker will need at its peak.

The "future" half of the Past-Future scheduler (arXiv 2507.10150). Every running request gains one
token a step and frees all of its cache when it ends. So the use only grows between two ends, and
its peak is just before one of them. Number the n running requests by remaining length, descending:
r(1) >= r(2) >= ... >= r(n), and let u(j) be what request j uses now. When request i ends, those
from 1 to i are still there, each r(i) tokens longer than now, and the others are gone:

    M(i) = u(1) + ... + u(i) + i * r(i)        peak = max over i of M(i)

Let s(j) be the step at which request j of p(j) prompt tokens began, and e(j) the one at which it
ends. At step t, u(j) = p(j) + t - s(j) and r(j) = e(j) - t, hence

    M(i) = (p(1) - s(1)) + ... + (p(i) - s(i)) + i * e(i)

without t: as long as nobody comes or goes or outlives its prediction, neither the order nor any
M(i) changes. They are computed once and kept. A newcomer with prompt p and end e adds, to every
M(i) with e(i) < e, its own use then (p - t + e(i)), leaves the others as they are, and brings one
term of its own; so the peak with it takes two running maxima and one binary search.

Nothing here is shared: two requests with a common prefix count it twice, as if it were copied.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from operator import add, mul

OVERDUE = 2.0
"""A request that should have generated this many times what it may has ended, whatever its client
does with the answer: steps are estimated, but not that badly."""


class RunningBatch:
    """What runs on one decode worker, as far as one router knows.

    Time is counted in steps, in each of which every request generates a token: elapsed time over
    the predicted time per token, so that no stream needs to be read. Before anything is asked or
    told, ``advance`` says what time it is.

    Invariant: ``_by_end`` holds the counted requests, ``_ends`` when each ends, ascending and later
    than ``_step``, ``_offsets`` each one's prompt - start; ``_offset_tokens`` is the sum of these,
    and ``final_tokens`` that of prompt + end - start.
    """

    __slots__ = (
        "_at",
        "_by_end",
        "_by_id",
        "_ends",
        "_offset_tokens",
        "_offsets",
        "_peaks",
        "_predict_beyond",
        "_step",
        "count",
        "final_tokens",
    )

    count: int
    """Requests that are thought to be generating."""
    final_tokens: float
    """KV tokens if all of them were at their end at once: never less than the peak."""

    def __init__(self, predict_beyond: Callable[[float], float], now: float) -> None:
        """*predict_beyond* expects the whole length of an output from what is generated already,
        and always more than that (``OutputLengths.predict_beyond``)."""
        self._predict_beyond = predict_beyond
        self._at = now
        self._by_id: dict[str, _Running] = {}
        self._by_end: list[_Running] = []
        self._ends: list[float] = []
        self._offsets: list[float] = []
        self._peaks: _Peaks | None = None
        self._step = 0.0
        self._offset_tokens = 0.0
        self.count = 0
        self.final_tokens = 0.0

    @property
    def context_tokens(self) -> float:
        """KV tokens in use now."""
        return self._offset_tokens + self.count * self._step

    def advance(self, now: float, seconds_per_token: float) -> None:
        """Let time pass until *now*, at *seconds_per_token* since the last time."""
        if now > self._at:
            if self.count:
                self._step += (now - self._at) / seconds_per_token
                while self._ends and self._ends[0] <= self._step:
                    self._prolong(self._by_end[0])
            self._at = now

    def admit(
        self,
        request_id: str,
        prompt_tokens: float,
        predicted_output_tokens: float,
        max_output_tokens: float,
    ) -> None:
        """Take in a request, as if it began to generate now."""
        assert request_id not in self._by_id, request_id
        running = _Running(prompt_tokens, predicted_output_tokens, max_output_tokens)
        self._by_id[request_id] = running
        self._insert(running, self._step)

    def begin(self, request_id: str) -> None:
        """Let a request begin now that was admitted earlier: it had to be prefilled first."""
        running = self._by_id[request_id]
        self._remove(running)
        running.output_tokens = running.predicted_output_tokens
        self._insert(running, self._step)

    def leave(self, request_id: str) -> None:
        """Take out a request, ended or not."""
        self._remove(self._by_id.pop(request_id))
        if not self.count:
            # Back to step 0, so that no rounding error outlives a batch.
            self._step = self._offset_tokens = self.final_tokens = 0.0

    def peak_bound_with(self, prompt_tokens: float, predicted_output_tokens: float) -> float:
        """Bound ``peak_with`` from above, at next to no cost."""
        return self.final_tokens + prompt_tokens + predicted_output_tokens

    def peak_with(self, prompt_tokens: float, predicted_output_tokens: float) -> float:
        """Return the KV tokens at the peak if such a request began to generate now.

        O(log n) while the batch stays as it is, O(n) once after it changed.
        """
        if self._peaks is None:
            self._peaks = _Peaks(self._ends, self._offsets)
        return self._peaks.with_newcomer(
            prompt_tokens - self._step, self._step + predicted_output_tokens
        )

    def _prolong(self, running: "_Running") -> None:
        self._remove(running)
        generated_tokens = self._step - running.start
        if generated_tokens >= OVERDUE * running.max_output_tokens:
            return
        running.output_tokens = self._predict_beyond(generated_tokens)
        assert running.output_tokens > generated_tokens, running.output_tokens
        self._insert(running, running.start)

    def _insert(self, running: "_Running", start: float) -> None:
        running.start = start
        running.end = end = start + running.output_tokens
        running.counted = True
        index = bisect_right(self._ends, end)
        self._ends.insert(index, end)
        self._by_end.insert(index, running)
        self._offsets.insert(index, running.prompt_tokens - start)
        self.count += 1
        self._offset_tokens += running.prompt_tokens - start
        self.final_tokens += running.prompt_tokens + running.output_tokens
        self._peaks = None

    def _remove(self, running: "_Running") -> None:
        if not running.counted:
            return
        running.counted = False
        index = self._by_end.index(running, bisect_left(self._ends, running.end))
        del self._ends[index], self._by_end[index], self._offsets[index]
        self.count -= 1
        self._offset_tokens -= running.prompt_tokens - running.start
        self.final_tokens -= running.prompt_tokens + running.output_tokens
        self._peaks = None


class _Running:
    """One request; ``start`` and ``end`` are steps of its batch."""

    __slots__ = (
        "counted",
        "end",
        "max_output_tokens",
        "output_tokens",
        "predicted_output_tokens",
        "prompt_tokens",
        "start",
    )

    def __init__(
        self, prompt_tokens: float, predicted_output_tokens: float, max_output_tokens: float
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.predicted_output_tokens = predicted_output_tokens
        self.output_tokens = predicted_output_tokens
        self.max_output_tokens = max_output_tokens
        self.start = 0.0
        self.end = 0.0
        self.counted = False


class _Peaks:
    """The M(i) of an unchanging batch, by ascending end, with their running maxima.

    ``_later_offsets[k]`` is the sum of prompt - start over those from index k on, and
    ``_later_peak[k]`` their greatest M; ``_shared_peak[k]`` is the greatest M + end of those before
    k, which a newcomer that ends later adds its own offset to.
    """

    __slots__ = ("_ends", "_later_offsets", "_later_peak", "_shared_peak")

    def __init__(self, ends: list[float], offsets: list[float]) -> None:
        self._ends = ends
        self._later_offsets = list(accumulate(reversed(offsets), initial=0.0))
        self._later_offsets.reverse()
        uses_of_all = map(mul, range(len(ends), 0, -1), ends)
        peaks = list(map(add, self._later_offsets, uses_of_all))
        self._shared_peak = _running_max(map(add, peaks, ends))
        self._later_peak = _running_max(reversed(peaks))
        self._later_peak.reverse()

    def with_newcomer(self, offset_tokens: float, end: float) -> float:
        """Return the greatest M with one more that ends at *end*; its offset is prompt - start."""
        index = bisect_left(self._ends, end)
        still_there = len(self._ends) - index + 1
        at_its_end = self._later_offsets[index] + offset_tokens + still_there * end
        return max(at_its_end, self._shared_peak[index] + offset_tokens, self._later_peak[index])


def _running_max(values: Iterable[float]) -> list[float]:
    """Return 0 and then the greatest so far; ``accumulate`` with ``max`` takes thrice the time."""
    greatest = 0.0
    maxima = [greatest]
    for value in values:
        if value > greatest:
            greatest = value
        maxima.append(greatest)
    return maxima
