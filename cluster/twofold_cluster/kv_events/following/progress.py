"""How far a publisher's numbered batches were taken in."""

import enum


class Verdict(enum.Enum):
    """What a batch is, by its number and its time."""

    NEXT = "next"
    AGAIN = "again"
    """It was taken in before, by a replay."""
    AFTER_A_GAP = "after a gap"
    RESTARTED = "restarted"
    """The publisher has begun to count anew, so its engine has an empty cache."""


class Progress:
    """All batches below ``next_number`` were taken in, or are lost for good."""

    def __init__(self) -> None:
        self.next_number = 0
        self._last_at = float("-inf")

    def judge(self, number: int, at: float) -> Verdict:
        """Judge batch *number* of the time *at*, in seconds on the publisher's clock.

        A replay brings batches that are still on their way as well: what has a low number but is
        newer than all before was not among them.
        """
        if number == self.next_number:
            return Verdict.NEXT
        if number > self.next_number:
            return Verdict.AFTER_A_GAP
        return Verdict.RESTARTED if at > self._last_at else Verdict.AGAIN

    def is_last(self, number: int, at: float) -> bool:
        """Tell whether this is the batch that was taken in last, and not another publisher's."""
        return number == self.next_number - 1 and at == self._last_at

    def take(self, number: int, at: float) -> None:
        """Take in a batch; those before it that were not are lost."""
        self.next_number = number + 1
        self._last_at = at

    def skip(self, number: int) -> None:
        """Give up a batch that cannot be read."""
        self.next_number = max(self.next_number, number + 1)

    def restart(self) -> None:
        self.next_number = 0
        self._last_at = float("-inf")
