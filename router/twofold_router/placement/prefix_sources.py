"""Who has the beginning of a prompt for a worker that lacks it (DESIGN, "What nobody else has").

Only the candidates are asked, where the choice has looked anyway.
"""

from collections.abc import Iterable, Mapping

from twofold_cluster.legs import PrefixSource, prefix_source
from twofold_cluster.prompt_key import PromptKey
from twofold_router.placement.accounts import Account, Circle
from twofold_router.placement.waiting import Waiting


def longest_held(candidates: Iterable[Account], key: PromptKey) -> Mapping[Circle, int]:
    """Return how many tokens of the prompt of *key* a worker of each circle holds at most."""
    held: dict[Circle, int] = {}
    for account in candidates:
        circle = account.circle
        if circle is not None:
            held[circle] = max(held.get(circle, 0), account.mirror.cached_tokens(key))
    return held


def find_source(waiting: Waiting, at: Account, cached_tokens: float) -> PrefixSource | None:
    """Name the candidate of *waiting* that holds the longest prefix, for *at* to fetch it, which
    will have *cached_tokens* itself; None if nobody there holds so much more that it matters."""
    circle = at.circle
    key = waiting.request.key
    if circle is None or not key.blocks:
        return None
    best: Account | None = None
    best_tokens = cached_tokens + at.least_pulled_tokens(waiting)
    for other in waiting.candidates:
        if other is at or other.circle != circle:
            continue
        tokens = other.mirror.cached_tokens(key)
        if tokens > best_tokens or (best is None and tokens == best_tokens):
            best, best_tokens = other, tokens
    if best is None:
        return None
    return prefix_source(best.worker, int(best_tokens), at.speed.seconds_per_token)
