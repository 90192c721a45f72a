"""Names at the ends of the lines, in place of a legend."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from twofold_sim.picturing.styles import Style

LEAST_GAP = 0.052
"""Between two labels, in heights of the axes."""
INSET = 0.035


class End(NamedTuple):
    """Where a line ends, on the axes' y axis."""

    y: float
    name: str
    style: Style


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write the name of each line to the right of *axes*, whose y limits are final, as near to its
    end as the others allow."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: (end.y, end.name))
    heights = [(end.y - low) / (high - low) for end in ordered]
    for end, height, place in zip(ordered, heights, spread(heights), strict=True):
        colour = end.style.colour
        axes.plot(
            [1.0, 1.0 + INSET],
            [height, place],
            transform=axes.transAxes,
            clip_on=False,
            color=colour,
            linewidth=0.8,
        )
        axes.text(
            1.0 + 1.3 * INSET,
            place,
            end.name,
            transform=axes.transAxes,
            color=colour,
            va="center",
            fontweight="bold" if end.name == "twofold" else "normal",
        )


def spread(heights: Sequence[float]) -> list[float]:
    """Move *heights*, which are in order, by as little as makes a gap between each two; then all of
    them onto the axes, if there is room.

    Those that are too near are a block around their mean; blocks that meet become one.
    """
    blocks: list[tuple[float, int]] = []
    for height in heights:
        middle, count = height, 1
        while blocks and middle - blocks[-1][0] < LEAST_GAP * (count + blocks[-1][1]) / 2:
            below, below_count = blocks.pop()
            middle = (middle * count + below * below_count) / (count + below_count)
            count += below_count
        blocks.append((middle, count))
    places = [
        middle + (number - (count - 1) / 2) * LEAST_GAP
        for middle, count in blocks
        for number in range(count)
    ]
    for index, place in enumerate(places):
        places[index] = max(place, index * LEAST_GAP)
    top = max(1.0, (len(places) - 1) * LEAST_GAP)
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], top)
        top = places[index] - LEAST_GAP
    return places
