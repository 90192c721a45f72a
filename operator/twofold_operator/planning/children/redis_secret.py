"""The Secret with the way to the membership, for routers, pool managers and Ray's own state."""

import base64
from typing import Any
from urllib.parse import unquote, urlsplit

from twofold_operator.planning import names
from twofold_operator.planning.children.ownership import child
from twofold_operator.resources import LLMService


def redis_secret(service: LLMService, url: str) -> dict[str, Any]:
    data = {names.REDIS_KEY: url}
    password = password_of(url)
    if password:
        data[names.REDIS_PASSWORD_KEY] = password
    return child(
        service,
        "v1",
        "Secret",
        names.redis_name(service.metadata.name),
        "redis",
        type="Opaque",
        data={key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    )


def password_of(url: str) -> str | None:
    password = urlsplit(url).password
    return unquote(password) if password else None


def ray_address(url: str) -> str:
    """Return the address as Ray takes it, without anything secret."""
    parts = urlsplit(url)
    address = f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"
    return f"rediss://{address}" if parts.scheme == "rediss" else address


def fault_tolerance(service: LLMService, url: str) -> dict[str, Any]:
    """Return KubeRay's options that keep Ray's state in Redis, so that a head may restart."""
    options: dict[str, Any] = {"redisAddress": ray_address(url)}
    username = urlsplit(url).username
    if username:
        options["redisUsername"] = {"value": unquote(username)}
    if password_of(url):
        secret = {
            "name": names.redis_name(service.metadata.name),
            "key": names.REDIS_PASSWORD_KEY,
        }
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": secret}}
    return options
