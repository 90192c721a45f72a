"""What one worker holds by its events, and what of that the directory has to be told."""

import math
from collections import defaultdict
from collections.abc import Callable

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
    KvEvent,
)
from twofold_kvtransfer.directory.changes import Changes
from twofold_kvtransfer.directory.names import block_name
from twofold_kvtransfer.directory.updates import (
    DEFAULT_TIER,
    MAX_BLOCKS_PER_UPDATE,
    DirectoryUpdate,
    Position,
    Rebuild,
    Tier,
)

MAX_UNSENT_BLOCKS = 100_000
"""Changes that wait while Redis is away; beyond, a rebuild is cheaper."""

_BEFORE_ALL = Position(0.0, -1)


class Feed:
    """Turns the batches of one incarnation of a worker into updates of the directory.

    The worker holds all that is held here: blocks that it has told of and not removed since. A
    hash that an engine has in two places is given up when the first is removed, because engines
    also announce again what they have in one. After a gap the feed begins with nothing, and is not
    whole: the worker may hold more.

    The directory may know more than this feed, from another feeder. The feed continues what the
    directory has only after it has seen the very batch at which that stands; otherwise the
    directory has to be rebuilt from what the feed knows.
    """

    def __init__(
        self, worker_id: WorkerId, incarnation: Incarnation, max_blocks: Callable[[Tier], int]
    ) -> None:
        """*max_blocks*: of each tier; more are not taken in, and the feed is not whole then."""
        self._worker_id = worker_id
        self._incarnation = incarnation
        self._max_blocks = max_blocks
        self._is_hybrid = False
        self._continues = False
        self._ahead: Position | None = None  # where the directory stands, if it is not behind
        self._on_the_way: Changes | None = None
        # In the order in which they were stored, so that a directory without room for all takes
        # the heads of chains: without its head, a chain is of no use.
        self._held: defaultdict[Tier, dict[bytes, None]] = defaultdict(dict)
        self._is_whole = False  # until the engine is seen to begin
        self._next: int | None = None
        self._lost_count = 0
        # So that the directory hears of a new incarnation before its first event.
        self._position = _BEFORE_ALL
        self._changes = Changes(first=0)

    @property
    def is_whole(self) -> bool:
        """Whether the worker holds nothing but what the feed knows."""
        return self._is_whole

    @property
    def needs_rebuild(self) -> bool:
        """Whether the directory cannot be told of changes only."""
        return not self._continues and self._ahead is None

    @property
    def block_count(self) -> int:
        """Over all tiers."""
        return sum(map(len, self._held.values()))

    @property
    def lost_count(self) -> int:
        """Batches that were missed for good, over all lives of the engine."""
        return self._lost_count

    def begin(self) -> None:
        """The engine has told nothing yet: it holds nothing."""
        if self._next is None:
            self._is_whole = not self._is_hybrid

    def take(self, number: int, batch: EventBatch) -> None:
        """Take in batch *number*. Those that were taken before are ignored; if some before it are
        missing, what was known is given up."""
        if self._next is None:
            self._is_whole = number == 0 and not self._is_hybrid
            self._changes = Changes(first=number)
        elif number < self._next:
            return
        elif number > self._next:
            self._lost_count += number - self._next
            self._give_up(number)
        self._next = number + 1
        self._position = _after(self._position, batch.at, number)
        for event in batch.events:
            self._take_event(event)
        if len(self._changes) > MAX_UNSENT_BLOCKS:
            self.lose_link()
        self._look_for_link()

    def lose(self, number: int) -> None:
        """Batch *number* cannot be read, so what is held is not known any more."""
        if self._next is not None and number < self._next:
            return
        self._lost_count += number + 1 - self._following()
        self._give_up(number)
        self._changes.clear(degrades=True)
        self._next = number + 1
        self._position = max(self._position, Position(self._position.at, number))

    def restart(self) -> None:
        """The engine has begun anew: it counts from 0, and held nothing when it began.

        Until its first batch is heard, the position is the last one that it had before.
        """
        self._continues, self._ahead = False, None
        self._held.clear()
        self._is_whole = False
        self._next = None
        self._changes = Changes(first=0)

    def lose_link(self) -> None:
        """The directory does not have what it was told: it must be rebuilt."""
        self.link(None)

    def link(self, position: Position | None) -> None:
        """Take up what the directory has, which stands at *position*; None: it has nothing."""
        self._continues, self._ahead = False, position
        self._on_the_way = None
        self._changes = Changes(self._following())
        self._look_for_link()

    def updates(self) -> list[DirectoryUpdate]:
        """Tell all changes since the last time, in parts; nothing if the directory has to be
        rebuilt, or if it is ahead of this feed. Without a change, there is one that only renews.

        They have to be sent in order. Then :meth:`sent` must be called, or :meth:`unsent`.
        """
        if not self._continues:
            return []
        changes, self._changes = self._changes, Changes(self._following())
        self._on_the_way = changes
        return changes.updates(self._worker_id, self._incarnation, self._position)

    def sent(self) -> None:
        """The last updates have all arrived."""
        self._on_the_way = None

    def unsent(self) -> None:
        """The last updates may not all have arrived: they come again, with the next."""
        earlier, later = self._on_the_way, self._changes
        self._on_the_way = None
        # After a gap what was before is of no use, and the directory has to notice the gap.
        if earlier is not None and later.follows(earlier):
            earlier.go_on_with(later)
            self._changes = earlier

    def rebuild(self, token: str) -> list[Rebuild]:
        """Tell all that is held, in parts, and continue from here.

        They have to be sent in order; if one does not arrive, :meth:`lose_link` must be called.
        """
        flat = [(tier, name) for tier, names in self._held.items() for name in names]
        self._changes = Changes(self._following())
        self._on_the_way = None
        self._continues = True
        return [
            Rebuild(
                worker_id=self._worker_id,
                incarnation=self._incarnation,
                position=self._position,
                token=token,
                is_first_part=start == 0,
                is_last_part=start + MAX_BLOCKS_PER_UPDATE >= len(flat),
                degrades=not self._is_whole,
                stored=tuple(flat[start : start + MAX_BLOCKS_PER_UPDATE]),
            )
            for start in range(0, max(1, len(flat)), MAX_BLOCKS_PER_UPDATE)
        ]

    def _following(self) -> int:
        return 0 if self._next is None else self._next

    def _give_up(self, number: int) -> None:
        """Begin with nothing at batch *number*."""
        self._held.clear()
        self._is_whole = False
        self._changes = Changes(first=number)

    def _look_for_link(self) -> None:
        if self._ahead is None or self._position < self._ahead:
            return
        if self._position == self._ahead:
            self._continues = True
            self._changes = Changes(self._following())
        self._ahead = None

    def _take_event(self, event: KvEvent) -> None:
        match event:
            case BlockStored():
                self._store(event)
            case BlockRemoved():
                tier = event.medium or DEFAULT_TIER
                for name in map(block_name, event.block_hashes):
                    self._held[tier].pop(name, None)
                    self._changes.note(tier, name, is_stored=False)
            case AllBlocksCleared():
                self._held.clear()
                self._is_whole = not self._is_hybrid
                self._changes.clear(degrades=self._is_hybrid)

    def _store(self, event: BlockStored) -> None:
        if event.group != 0 and not self._is_hybrid:
            # Each kind of layers has blocks of its own: those of one are no prefix to resume from.
            self._is_hybrid = True
            self._held.clear()
            self._is_whole = False
            self._changes.clear(degrades=True)
        if self._is_hybrid:
            return
        tier = event.medium or DEFAULT_TIER
        held, max_blocks = self._held[tier], self._max_blocks(tier)
        for name in map(block_name, event.block_hashes):
            if len(held) >= max_blocks and name not in held:
                # The newest is left out, as where the directory has no room.
                self._is_whole = False
                self._changes.degrades = True
                continue
            held[name] = None
            self._changes.note(tier, name, is_stored=True)


def _after(last: Position, at: float, number: int) -> Position:
    """Return where batch *number* stands, later than *last* even if the clock was set back.

    Where the numbers go on they are enough; an engine that has begun anew counts lower, and is told
    apart by its time alone.
    """
    least = last.at if number > last.number else math.nextafter(last.at, math.inf)
    return Position(max(at, least), number)
