"""Which codec a read gets, and what was learned from those before."""

import threading

from twofold_kvtransfer.codecs import Choice, Controller, ControllerSettings, Link, Measured
from twofold_kvtransfer.codecs.learning import LEAST_SECONDS
from twofold_kvtransfer.transports.tcp.accounts import Stages
from twofold_kvtransfer.transports.tcp.chunks import CHUNK_BYTES
from twofold_kvtransfer.transports.tcp.compressing import Compression

LINK_BOUND = 0.8
"""If payloads were on their way for so much of a coded transfer's time, the link was what it waited
for. Else the streams waited for codecs, and had fewer cores to receive with than ``none`` has: the
link may be faster than it seems, never slower."""

UNMEASURED_FASTER = 8
"""A link that was not measured may be so many times as fast as it is taken for: what was coded over
a fast one is lost, and ``none`` measures it."""


class Chooser:
    """The controller of a transport, for many threads.

    One for all pairs: decoding is done here, peers encode on cores that are taken to be alike, and
    a link, which is named after the peer's host, stays when the peer restarts.
    """

    def __init__(self, compression: Compression) -> None:
        settings = ControllerSettings(quality=compression.quality, chunk_bytes=CHUNK_BYTES)
        self._controller = Controller(settings, compression.costs)
        self._compression = compression
        self._lock = threading.Lock()

    def choose(self, size_bytes: int, host: str) -> Choice | None:
        """Choose for a read of *size_bytes* from *host*; None: nothing to choose, nor to learn."""
        if size_bytes < self._compression.least_bytes:
            return None
        link = Link(host, UNMEASURED_FASTER * self._compression.link_bytes_per_second)
        with self._lock:
            return self._controller.choose(size_bytes, link)

    def learn(self, choice: Choice, stages: Stages, seconds: float) -> None:
        """Learn from a transfer that is done and took *seconds* since a stream first had it."""
        if stages.is_mixed:
            return
        # A peer may say what it likes, but was not at it for longer than all took.
        encoding, decoding = min(stages.encode_seconds, seconds), stages.decode_seconds
        with self._lock:
            move_seconds, is_bound = self._move_seconds(choice, stages, seconds)
            if not is_bound:
                # What waited for its codec took what that took, with all hand-overs.
                longer = seconds / max(encoding, decoding, LEAST_SECONDS)
                encoding, decoding = longer * encoding, longer * decoding
            self._controller.learn(
                choice,
                Measured(
                    payload_bytes=stages.payload_bytes,
                    move_seconds=move_seconds,
                    encode_seconds=encoding,
                    decode_seconds=decoding,
                    is_link_bound=is_bound,
                ),
            )

    def _move_seconds(
        self, choice: Choice, stages: Stages, seconds: float
    ) -> tuple[float | None, bool]:
        """Return what is known of how long the link took, and whether it was waited for."""
        if choice.codec == "none" or stages.move_seconds >= LINK_BOUND * seconds:
            return stages.move_seconds, True
        # What waited in the socket came while streams were held up: within both times at the most.
        longest = stages.move_seconds + stages.held_up_seconds
        believed = stages.payload_bytes / self._controller.believed(choice.link)
        if believed >= LINK_BOUND * seconds and longest >= LINK_BOUND * believed:
            return None, True  # all is as if the link were what it is believed to be
        return longest if longest < believed else None, False
