"""What a dispatched request holds."""

from twofold_cluster.legs import PrefixSource
from twofold_router.placement.accounts import Account
from twofold_router.placement.waiting import Waiting


class Holding:
    """A place for the decode at ``decode``, and until the prompt is computed one at
    ``computed_at``.

    ``source`` is the account whose blocks the decode worker must be able to use, None if it
    computes the prompt itself. ``began_at`` is when the prompt was dispatched to be computed. The
    token counts are predictions, and so is ``ttft_seconds``, how long it was to take.
    ``prefix_source`` is whom ``computed_at`` was told to have more of the prompt.
    """

    __slots__ = (
        "began_at",
        "cached_tokens",
        "computed_at",
        "decode",
        "is_learned",
        "prefix_source",
        "source",
        "ttft_seconds",
        "uncached_tokens",
        "waiting",
    )

    def __init__(self, waiting: Waiting, computed_at: Account, decode: Account) -> None:
        self.waiting = waiting
        self.decode = decode
        self.source = None if computed_at is decode else computed_at
        self.is_learned = False
        self.prefix_source: PrefixSource | None = None
        self.began_at = 0.0
        self.ttft_seconds = 0.0
        self.compute_at(computed_at)

    def compute_at(self, account: Account) -> None:
        """Have the prompt computed at *account*, with what is cached there."""
        self.computed_at = account
        self.uncached_tokens = account.uncached_tokens(self.waiting)
        self.cached_tokens = self.waiting.prompt_tokens - self.uncached_tokens
