"""The Secret with the way to the membership, for routers and pool managers."""

import base64
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.children.ownership import child
from twofold_operator.planning.observed import Manifest
from twofold_operator.planning.redis import Redis
from twofold_operator.resources import LLMService


def redis_secret(service: LLMService, redis: Redis) -> dict[str, Any]:
    return child(
        service,
        "v1",
        "Secret",
        names.redis_name(service.metadata.name, redis.id),
        "redis",
        type="Opaque",
        data={names.REDIS_KEY: base64.b64encode(redis.url.encode()).decode()},
    )


def url_in(secret: Manifest | None) -> str | None:
    """Return the URL in a Secret of ours; None if there is none that can be read."""
    try:
        text = ((secret or {}).get("data") or {}).get(names.REDIS_KEY, "")
        return base64.b64decode(text).decode() or None
    except ValueError:
        return None
