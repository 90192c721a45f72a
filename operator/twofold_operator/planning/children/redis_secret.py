"""The Secret with the way to the membership, for routers, pool managers and Ray's own state."""

import base64
from typing import Any
from urllib.parse import unquote, urlsplit

from twofold_operator.planning import names
from twofold_operator.planning.children.ownership import child
from twofold_operator.planning.observed import Manifest
from twofold_operator.planning.redis import Redis
from twofold_operator.resources import LLMService


def redis_secret(service: LLMService, redis: Redis) -> dict[str, Any]:
    data = {names.REDIS_KEY: redis.url}
    password = password_of(redis.url)
    if password:
        data[names.REDIS_PASSWORD_KEY] = password
    return child(
        service,
        "v1",
        "Secret",
        names.redis_name(service.metadata.name, redis.id),
        "redis",
        type="Opaque",
        data={key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    )


def url_in(secret: Manifest | None) -> str | None:
    """Return the URL in a Secret of ours; None if there is none that can be read."""
    try:
        text = ((secret or {}).get("data") or {}).get(names.REDIS_KEY, "")
        return base64.b64decode(text).decode() or None
    except ValueError:
        return None


def password_of(url: str) -> str | None:
    password = urlsplit(url).password
    return unquote(password) if password else None


def ray_address(url: str) -> str:
    """Return the address as Ray takes it, without anything secret."""
    parts = urlsplit(url)
    address = f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"
    return f"rediss://{address}" if parts.scheme == "rediss" else address


def fault_tolerance(service: LLMService, redis: Redis) -> dict[str, Any]:
    """Return KubeRay's options that keep Ray's state in Redis, so that a head may restart."""
    options: dict[str, Any] = {"redisAddress": ray_address(redis.url)}
    username = urlsplit(redis.url).username
    if username:
        options["redisUsername"] = {"value": unquote(username)}
    if password_of(redis.url):
        secret = {
            "name": names.redis_name(service.metadata.name, redis.id),
            "key": names.REDIS_PASSWORD_KEY,
        }
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": secret}}
    return options
