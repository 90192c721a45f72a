"""The block directory: who holds which prefix, and where, fed by the engines' KV events.

A :class:`Feeder` follows the events of one worker and keeps its entry in Redis; whoever looks for
a prefix asks :meth:`Directory.find`. An entry is of one incarnation: a newer one fences it. What is
told late, twice or by two feeders changes nothing; after a gap that no replay has filled a worker's
entry begins empty, and is degraded until its cache is cleared or a feeder that missed nothing
rebuilds it. A Redis that comes back empty is filled again from what the feeders know.

Redis must not evict keys by itself (``maxmemory-policy noeviction``, its default): the directory
has bounds of its own.
"""

from twofold_kvtransfer.directory.directory import Directory
from twofold_kvtransfer.directory.feed import Feed
from twofold_kvtransfer.directory.feeder import Feeder, FeedSnapshot
from twofold_kvtransfer.directory.holdings import Holding
from twofold_kvtransfer.directory.settings import DirectorySettings, InvalidDirectorySettingsError
from twofold_kvtransfer.directory.source import EventSource
from twofold_kvtransfer.directory.updates import (
    DEFAULT_TIER,
    Answer,
    DirectoryUpdate,
    Position,
    Rebuild,
    Verdict,
)

__all__ = [
    "DEFAULT_TIER",
    "Answer",
    "Directory",
    "DirectorySettings",
    "DirectoryUpdate",
    "EventSource",
    "Feed",
    "FeedSnapshot",
    "Feeder",
    "Holding",
    "InvalidDirectorySettingsError",
    "Position",
    "Rebuild",
    "Verdict",
]
