"""The KV events of the workers, followed over ZMQ from router to engine."""

from twofold_router.kv_events.followers import Followers

__all__ = ["Followers"]
