"""A plugin of vLLM's for engines under test: the links of the tcp transport damage blocks, or are
slow, as a test orders."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from twofold_kvtransfer.transports.sockets.connection import Connection

FOLDER_ENV = "TWOFOLD_TEST_LINKS"
"""Names the folder with the orders, which are files."""

LEAST_BYTES = 2**16
"""What is shorter are no blocks, but what the two sides say about them."""

SLOW_BYTES_PER_SECOND = 20e6


@dataclass(frozen=True)
class Links:
    """Those of the engines that are started with ``environment``."""

    environment: dict[str, str]
    damage: Path
    """Made, it has a bit of the next block that arrives flipped, and is removed."""
    slow: Path
    """While it is there, each connection gives ``SLOW_BYTES_PER_SECOND``."""


def install(folder: Path) -> Links:
    """Make *folder* one in which vLLM finds the plugin.

    vLLM loads whatever distribution on the path has an entry point of its group.
    """
    package = folder / "links-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: links\nVersion: 1\n")
    entry = f"[vllm.general_plugins]\nfaulty_links = {__name__}:register\n"
    (package / "entry_points.txt").write_text(entry)
    path = [str(folder), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        FOLDER_ENV: str(folder),
    }
    return Links(environment, folder / "damage", folder / "slow")


def register() -> None:
    """Entry point; vLLM may call it more than once."""
    if Connection.receive is not _receive:
        Connection.receive = _receive  # type: ignore[method-assign]


_received = Connection.receive


def _receive(self: Connection, buffers: list[memoryview]) -> None:
    _received(self, buffers)
    size = sum(map(len, buffers))
    if size < LEAST_BYTES:
        return
    folder = Path(os.environ[FOLDER_ENV])
    if (folder / "slow").exists():
        time.sleep(size / SLOW_BYTES_PER_SECOND)
    try:
        (folder / "damage").unlink()
    except FileNotFoundError:
        return
    buffers[-1].cast("B")[-1] ^= 1
