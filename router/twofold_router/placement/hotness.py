"""How much of a prompt is its key: the prefix hotness tree (DualMap, arXiv 2602.06502).

A key is what the hashes are computed from: with few blocks in it, requests that share a prefix
meet at the same workers; with many, they spread. Let rho be the share of the recent requests that
carry a prefix, and n the number of workers. A prefix with rho > 2/n is more than a fair share of
its two workers: it makes the key one block longer than itself, until rho < 1/n. Between the two
bounds it stays as it was.
"""

from collections import deque

from twofold_router.placement.prefixes import Blocks

WINDOW_REQUESTS = 4096
"""How many requests are recent."""

MINIMUM_REQUESTS = 8
"""A prefix that fewer recent requests carry is not hot: that would be chance. It changes the rule
when there are fewer requests, or more than a quarter of a full window in workers (1,024)."""

MAXIMUM_KEY_BLOCKS = 32
"""Bounds a key, and what is kept of a request; the paper's longest key has 13 blocks."""


class PrefixHotness:
    """The recent requests in a tree of their prefixes, which is as deep as their keys are long."""

    def __init__(
        self,
        *,
        window_requests: int = WINDOW_REQUESTS,
        minimum_requests: int = MINIMUM_REQUESTS,
        maximum_key_blocks: int = MAXIMUM_KEY_BLOCKS,
    ) -> None:
        self._window_requests = window_requests
        self._minimum_requests = minimum_requests
        self._maximum_key_blocks = maximum_key_blocks
        self._window: deque[Blocks] = deque()
        self._arrivals = 0
        self._root = _Prefix()
        self._root.children = {}

    def key_of(self, blocks: Blocks, worker_count: int) -> tuple[int, float]:
        """Count a request, and return its key's length in blocks and the rho of the key. *blocks*
        are those of the prompt, at least one."""
        self.observe(blocks)
        return self._follow(blocks, worker_count)

    def key_length(self, blocks: Blocks, worker_count: int) -> int:
        """Return how many blocks the key has, without counting the request (again)."""
        return self._follow(blocks, worker_count)[0]

    def observe(self, blocks: Blocks) -> None:
        """Count a request, and forget the one that leaves the window."""
        blocks = blocks[: self._maximum_key_blocks]
        self._window.append(blocks)
        self._root.hold(self._arrivals, blocks, 0)
        self._arrivals += 1
        if len(self._window) > self._window_requests:
            arrival = self._arrivals - len(self._window)
            self._root.forget(arrival, self._window.popleft())

    def _follow(self, blocks: Blocks, worker_count: int) -> tuple[int, float]:
        """Walk down to the key, and adapt the tree on the way."""
        total = self._root.count
        hot = max(2 * total / worker_count, self._minimum_requests - 1)
        cold = max(total / worker_count, self._minimum_requests / 2)
        longest = min(len(blocks), self._maximum_key_blocks)
        prefix, length = self._root, 0
        while prefix.children is not None and length < longest:
            child = prefix.children.get(blocks[length])
            length += 1
            if child is None:
                return length, 0.0
            child.adapt(length, hot, cold)
            prefix = child
        return length, prefix.count / total


class _Prefix:
    """A prefix that recent requests carry; it has children while it is hot.

    Invariants: ``count`` is the number of requests in the window that carry the prefix, at least
    one. A request is held by the last node on its path, and only there. So there are at most as
    many leaves as requests, and the tree is deeper than one block only where it was hot.
    """

    __slots__ = ("children", "count", "held")

    def __init__(self) -> None:
        self.count = 0
        self.children: dict[bytes, _Prefix] | None = None
        self.held: dict[int, Blocks] = {}
        """By the number of their arrival."""

    def hold(self, arrival: int, blocks: Blocks, depth: int) -> None:
        """Count a request here, *depth* blocks below the root, and on the rest of its path."""
        self.count += 1
        prefix = self
        while prefix.children is not None and depth < len(blocks):
            child = prefix.children.get(blocks[depth])
            if child is None:
                child = prefix.children[blocks[depth]] = _Prefix()
            child.count += 1
            depth += 1
            prefix = child
        prefix.held[arrival] = blocks

    def forget(self, arrival: int, blocks: Blocks) -> None:
        """Take back what ``hold`` did from the root."""
        self.count -= 1
        prefix = self
        for digest in blocks:
            if prefix.children is None:
                break
            child = prefix.children[digest]
            if child.count == 1:
                del prefix.children[digest]
                return
            child.count -= 1
            prefix = child
        del prefix.held[arrival]

    def adapt(self, depth: int, hot: float, cold: float) -> None:
        """Begin to lead on to longer keys if more than *hot* requests carry this prefix, end it if
        fewer than *cold* do.

        Between two changes of a prefix at least half of *hot* requests come or go, so its cost is
        paid by them.
        """
        if self.children is None:
            if self.count > hot:
                self._grow(depth)
        elif self.count < cold:
            self._shrink()

    def _grow(self, depth: int) -> None:
        requests, self.held, self.children = self.held, {}, {}
        self.count -= len(requests)
        for arrival, blocks in requests.items():
            self.hold(arrival, blocks, depth)

    def _shrink(self) -> None:
        below = list((self.children or {}).values())
        self.children = None
        while below:
            prefix = below.pop()
            self.held |= prefix.held
            below += (prefix.children or {}).values()
