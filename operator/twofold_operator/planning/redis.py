"""The membership's Redis, as one revision and its routers know it.

Workers and routers read its URL when they start, and no other later. So a Secret never changes its
content: another URL is another Secret, and whoever names it is made anew.
"""

import functools
import hashlib
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

_ROUNDS = 100_000
"""So many that nobody tries passwords until one gives the same name: names are no secret."""


@dataclass(frozen=True, slots=True)
class Redis:
    id: str
    """Names the URL without telling it: eight hexadecimal digits."""
    url: str
    """With its password."""


@functools.lru_cache(maxsize=16)
def redis_at(url: str) -> Redis:
    digest = hashlib.pbkdf2_hmac("sha256", url.encode(), b"twofold", _ROUNDS)
    return Redis(digest.hex()[:8], url)


def with_password(url: str, password: str) -> str:
    """Return *url* with *password*, which is not encoded yet, between its user and its host.

    Raises:
        ValueError: *url* is none or has a password, or *password* is not UTF-8.
    """
    parts = urlsplit(url)
    if parts.password is not None:
        raise ValueError("the URL has a password already")
    user, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))
