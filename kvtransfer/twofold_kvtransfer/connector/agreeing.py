"""What the ranks of an engine tell of the pull of a prefix, put together.

Each rank pulls its own heads of each block, from a rank of the source that has them, and decides by
itself whether that is worth it. A block is there when all ranks have it.
"""

from collections.abc import Mapping

from twofold_kvtransfer.prefixes import Outcome, Pulled

_WORST_LAST = (
    Outcome.PULLED,
    Outcome.DROPPED,
    Outcome.ABSENT,
    Outcome.SLOWER,
    Outcome.AVOIDED,
    Outcome.CHANGED,
    Outcome.LATE,
    Outcome.FAILED,
    Outcome.DAMAGED,
)
"""Dropped says least of why: ranks are told to drop what has failed in another."""


class PullsOfRanks:
    """Has the last that each rank told of each pull, until all have told the end of it.

    So the blocks of a pull stay taken while any rank may still write to them.
    """

    def __init__(self, rank_count: int) -> None:
        self._rank_count = rank_count
        self._told: dict[str, dict[int, Pulled]] = {}
        self._vain: set[str] = set()
        """Those of them that :meth:`take_vain` has named."""

    def note(self, rank: int, pulled: Pulled) -> Pulled | None:
        """Note what *rank* tells; return what is there now in all ranks, if that is more than
        before, or the end."""
        name = pulled.request_id
        told = self._told.setdefault(name, {})
        before = self._common_count(told)
        assert rank not in told or not told[rank].is_last, "it has told the end"
        told[rank] = pulled
        count = self._common_count(told)
        seconds = max(one.seconds for one in told.values())
        if len(told) == self._rank_count and all(one.is_last for one in told.values()):
            del self._told[name]
            self._vain.discard(name)
            worst = max((one.outcome for one in told.values()), key=_WORST_LAST.index)
            return Pulled(name, worst, count, seconds)
        if count > before:
            return Pulled(name, Outcome.PULLED, count, seconds, is_last=False)
        return None

    def take_vain(self) -> list[str]:
        """Return the requests, each once, of whose pull a rank has got less than it wanted: what
        the others go on pulling is of no use."""
        vain = [
            name
            for name, told in self._told.items()
            if name not in self._vain
            and any(one.is_last and one.outcome is not Outcome.PULLED for one in told.values())
        ]
        self._vain.update(vain)
        return vain

    def _common_count(self, told: Mapping[int, Pulled]) -> int:
        if len(told) < self._rank_count:
            return 0
        return min(one.block_count for one in told.values())
