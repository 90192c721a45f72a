"""Options that take several numbers."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from twofold_cli.errors import BadArgumentError

Number = TypeVar("Number", int, float)


def numbers(
    option: str, text: str, kind: Callable[[str], Number], *, positive: bool = False
) -> list[Number]:
    """Read numbers with commas between them, all of them finite and none below zero.

    Raises:
        BadArgumentError: *text* is something else; the message names *option*.
    """
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= number < math.inf for number in found):
        what = "whole numbers" if kind is int else "numbers"
        raise BadArgumentError(f"{option} is {text!r}, and must be {what} like 8,16,32")
    if positive and 0 in found:
        raise BadArgumentError(f"{option} is {text!r}, and must be more than 0")
    return found


def pairs(workers: Sequence[int], decode: Sequence[int]) -> list[tuple[int, int]]:
    """Give each number of *workers* its number that decode: one for all, or one for each.

    Raises:
        BadArgumentError: there are more or fewer.
    """
    if len(decode) == 1:
        return [(count, decode[0]) for count in workers]
    if len(decode) != len(workers):
        raise BadArgumentError(
            f"--decode has {len(decode)} numbers, and must have one, or one for each of the "
            f"{len(workers)} of --workers"
        )
    return list(zip(workers, decode, strict=True))
