"""How each policy is drawn: alike in all pictures.

The colours are those of M. Okabe and K. Ito, "Color universal design" (2008), which can be told
apart whatever colours one sees, and grey; dashes and markers tell apart what shares a colour.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
VERMILION, PURPLE, BLACK, GREY = "#D55E00", "#CC79A7", "#222222", "#8A8A8A"

SOLID = "-"
DASHED = (0, (5, 1.6))
DOTTED = (0, (1.2, 1.4))

Dash = str | tuple[float, tuple[float, ...]]


class Style(NamedTuple):
    """A line's looks, in matplotlib's words."""

    colour: str
    dash: Dash = SOLID
    marker: str = "o"
    width: float = 1.7


KNOWN: Mapping[str, Style] = {
    "twofold": Style(BLUE, width=2.8),
    "dual-map": Style(VERMILION, marker="s"),
    "dual-map-artifact": Style(VERMILION, DASHED, "s"),
    "preble": Style(GREEN, marker="^"),
    "preble-pending": Style(GREEN, DASHED, "^"),
    "min-ttft": Style(PURPLE, marker="D"),
    "aibrix-prefix-cache": Style(ORANGE, marker="v"),
    "sglang-cache-aware": Style(SKY, marker="P"),
    "one-ring": Style(BLACK, marker="X"),
    "least-loaded": Style(GREY, marker="<"),
    "two-random": Style(GREY, DASHED, ">"),
    "round-robin": Style(GREY, DOTTED, "*"),
    "twofold-pair-only": Style(VERMILION, DOTTED, "s"),
    "twofold-without-cost": Style(GREEN, DOTTED, "^"),
    "twofold-papers-choice": Style(GREY, DOTTED, "X"),
    "twofold-by-arrival": Style(PURPLE, DOTTED, "D"),
    "twofold-without-moves": Style(ORANGE, DOTTED, "v"),
    "twofold-fixed-key": Style(SKY, DOTTED, "P"),
}


def styles(policies: Iterable[str]) -> dict[str, Style]:
    """Return the style of each of *policies*; those that are not known get one by their names'
    order, so that the same ones always get the same."""
    names = set(policies)
    spare = itertools.cycle(
        Style(colour, dash, "d")
        for dash in (DASHED, DOTTED)
        for colour in (BLACK, SKY, PURPLE, ORANGE, GREEN, VERMILION, BLUE)
    )
    others = {name: next(spare) for name in sorted(names - KNOWN.keys())}
    return {name: KNOWN[name] for name in names & KNOWN.keys()} | others
