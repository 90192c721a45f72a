"""What was moved with which codec since the last look."""

from collections.abc import Callable, Mapping

from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.transports.tcp import CodecCounts


class CodecTally:
    """Turns a transport's counts, which only grow, into what came to them."""

    def __init__(self, counts: Callable[[], Mapping[CodecName, CodecCounts]]) -> None:
        self._counts = counts
        self._seen: Mapping[CodecName, CodecCounts] = {}

    def take(self) -> list[tuple[CodecName, int, int]]:
        """Return of each codec that was used: its name, transfers done, bytes of payload."""
        now = self._counts()
        news = []
        for codec, counts in now.items():
            before = self._seen.get(codec, CodecCounts())
            if counts.done_count > before.done_count:
                done = counts.done_count - before.done_count
                news.append((codec, done, counts.payload_bytes - before.payload_bytes))
        self._seen = now
        return news
