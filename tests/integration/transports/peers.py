"""A peer in a process of its own: that process, and what starts and steers it.

Run as a module with the name of a kind and a seed. A message is a line of JSON. It tells its
description and map, is told ours, opens a pair, and then stands there until its input ends.
"""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from tests.integration.transports.factories import FACTORIES

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports import Transport
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks

ROOT = Path(__file__).parents[3]
END_SECONDS = 30.0


class Geometry(msgspec.Struct, frozen=True):
    regions: int
    blocks: int
    block_bytes: int
    seed: int

    def make(self) -> HostBlocks:
        return host_blocks(self.regions, self.blocks, self.block_bytes, seed=self.seed)


class Introduction(msgspec.Struct, frozen=True):
    description: bytes
    blocks: BlockMap


class PeerProcess:
    """Owns the process, which is killed at the latest by ``close``."""

    def __init__(self, kind: str, geometry: Geometry) -> None:
        self.blocks = geometry.make()
        """What the peer's memory holds at its start; the peer's own is its own."""
        words = [kind, msgspec.json.encode(geometry).decode()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.transports.peers", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.introduction = msgspec.json.decode(self._line(), type=Introduction)

    @property
    def map(self) -> BlockMap:
        return self.introduction.blocks

    @property
    def pid(self) -> int:
        return self._process.pid

    def meet(self, introduction: Introduction) -> None:
        """Let the peer open its side of the pair; it does so while we go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(introduction) + b"\n")
        self._process.stdin.flush()

    def wait_until_met(self) -> None:
        assert self._line() == b"met\n"

    def stand_still(self) -> None:
        """Stop the process, and wait until each of its threads has: on a busy machine a signal
        takes its time."""
        self._process.send_signal(signal.SIGSTOP)
        give_up_at = time.monotonic() + END_SECONDS
        while self._states() != {"T"}:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"process {self.pid} does not stop")
            time.sleep(0.001)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(END_SECONDS)

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _states(self) -> set[str]:
        """Return the states that its threads are in, as proc(5) names them."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def serve(kind: str, geometry: Geometry) -> None:
    blocks = geometry.make()
    transport: Transport = FACTORIES[kind].new_make()(blocks)
    introduction = Introduction(transport.describe(), blocks.map)
    _say(msgspec.json.encode(introduction))
    other = msgspec.json.decode(sys.stdin.buffer.readline(), type=Introduction)
    transport.open(other.description, other.blocks)
    _say(b"met")
    sys.stdin.buffer.read()
    transport.close()


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Geometry))
