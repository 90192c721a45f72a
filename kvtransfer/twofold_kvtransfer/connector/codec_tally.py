"""What was moved with which codec since the last look."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.transports.tcp import CodecCounts


class CodecUse(NamedTuple):
    """Transfers that were coded alike. vLLM carries it as a plain tuple from rank to server."""

    codec: CodecName
    done_count: int
    block_bytes: int
    """Of the blocks, as they lie."""
    payload_bytes: int
    """Of what was moved in their place."""


class CodecTally:
    """Turns a transport's counts, which only grow, into what came to them."""

    def __init__(self, counts: Callable[[], Mapping[CodecName, CodecCounts]]) -> None:
        self._counts = counts
        self._seen: Mapping[CodecName, CodecCounts] = {}

    def take(self) -> list[CodecUse]:
        """Return what each codec was used for that was used at all."""
        now = self._counts()
        news = []
        for codec, counts in now.items():
            before = self._seen.get(codec, CodecCounts())
            if counts.done_count > before.done_count:
                use = CodecUse(
                    codec,
                    counts.done_count - before.done_count,
                    counts.size_bytes - before.size_bytes,
                    counts.payload_bytes - before.payload_bytes,
                )
                news.append(use)
        self._seen = now
        return news
