"""The KV events of one worker, followed over ZMQ: in order, without a gap that nobody knows of.

This needs pyzmq; what only decodes events does not.
"""

from twofold_cluster.kv_events.following.follower import Follower, Hear
from twofold_cluster.kv_events.following.source import Source, source_of

__all__ = ["Follower", "Hear", "Source", "source_of"]
