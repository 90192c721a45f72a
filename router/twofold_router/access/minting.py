"""Makes new API keys."""

import json
import secrets
from hashlib import sha256

import msgspec

from twofold_router.access.key_file import HASH_PREFIX, KeyEntry

KEY_PREFIX = "tf-"
"""So that scanners for leaked secrets can know one."""


def new_key() -> str:
    """Return a random key: the prefix and 32 bytes in base64url."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """Return what stands in the file for *key*."""
    return HASH_PREFIX + sha256(key.encode()).hexdigest()


def render_entry(entry: KeyEntry) -> str:
    """Write *entry* as the file has it."""
    # All its values are numbers and visible ASCII, which JSON and TOML write alike.
    fields = msgspec.to_builtins(entry)
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(("[[key]]", *lines, ""))
