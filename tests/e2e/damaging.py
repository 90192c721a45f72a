"""A plugin of vLLM's for engines under test: flips a bit of the next block that arrives."""

import os
from pathlib import Path

from twofold_kvtransfer.transports.sockets.connection import Connection

FILE_ENV = "TWOFOLD_TEST_DAMAGE"
"""Names a file that orders one damage, and is removed as that is done."""

LEAST_BYTES = 2**16
"""What is shorter are no blocks, but what the two sides say about them."""


def install(directory: Path) -> dict[str, str]:
    """Make *directory* one in which vLLM finds the plugin; return the environment that it takes.

    vLLM loads whatever distribution on the path has an entry point of its group.
    """
    package = directory / "damaging-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: damaging\nVersion: 1\n")
    entry = f"[vllm.general_plugins]\ndamaging = {__name__}:register\n"
    (package / "entry_points.txt").write_text(entry)
    path = [str(directory), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        FILE_ENV: str(directory / "damage"),
    }


def register() -> None:
    """Entry point; vLLM may call it more than once."""
    if Connection.receive is not _receive:
        Connection.receive = _receive  # type: ignore[method-assign]


_received = Connection.receive


def _receive(self: Connection, buffers: list[memoryview]) -> None:
    _received(self, buffers)
    if sum(map(len, buffers)) >= LEAST_BYTES:
        try:
            Path(os.environ[FILE_ENV]).unlink()
        except FileNotFoundError:
            return
        buffers[-1].cast("B")[-1] ^= 1
