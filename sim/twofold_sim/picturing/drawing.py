"""All pictures of a set of records."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from twofold_sim.measuring import Record
from twofold_sim.picturing.errors import PicturingError
from twofold_sim.picturing.scenes import scenes

DOTS_PER_INCH = 150


class Picture(NamedTuple):
    """A picture as PNG."""

    name: str
    """Of a file, without its ending."""
    title: str
    png: bytes


TITLES = {
    "capacity": "Requests on time over load",
    "ttft": "Time to the first token",
    "hit-rate": "Hit rate over load",
    "load": "Load of the workers over time",
}


def draw(records: Sequence[Record]) -> Iterator[Picture]:
    """Draw the pictures of *records*, scene by scene.

    Raises:
        PicturingError: matplotlib is not installed.
    """
    try:
        from twofold_sim.picturing import pictures  # a second, and only who draws needs it
    except ImportError as error:
        raise PicturingError(f"pictures need matplotlib: {error}") from error
    kinds = (
        ("capacity", pictures.capacity),
        ("ttft", pictures.ttft),
        ("hit-rate", pictures.hit_rate),
        ("load", pictures.load),
    )
    for scene in scenes(records):
        for kind, picture in kinds:
            figure = picture(scene)
            if figure is not None:
                png = io.BytesIO()
                # Without the version of what drew it, the same records give the same bytes.
                figure.savefig(png, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
                title = f"{TITLES[kind]}: {scene.title}"
                yield Picture(f"{kind}-{scene.slug}", title, png.getvalue())


def write_pictures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write the pictures of *records* as PNG into *folder*, which is made if need be.

    Raises:
        PicturingError: matplotlib is not installed.
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for picture in draw(records):
        path = folder / f"{picture.name}.png"
        path.write_bytes(picture.png)
        paths.append(path)
    return paths
