"""An update as ``APPLY`` takes it: a header in JSON, and the names of the blocks."""

from typing import Any

import msgspec

from twofold_kvtransfer.directory.settings import DirectorySettings
from twofold_kvtransfer.directory.updates import DirectoryUpdate, Rebuild, Tier, TierBlocks

_encode = msgspec.json.Encoder().encode


def encoded(
    update: DirectoryUpdate | Rebuild, settings: DirectorySettings
) -> tuple[bytes, list[bytes]]:
    """Return the header of *update* and its blocks: by tier, in each the removed first."""
    removed = _by_tier(update.removed if isinstance(update, DirectoryUpdate) else ())
    stored = _by_tier(update.stored)
    tiers: list[tuple[Tier, int, int]] = []
    names: list[bytes] = []
    for tier in dict.fromkeys((*removed, *stored)):
        gone, new = removed.get(tier, []), stored.get(tier, [])
        tiers.append((tier, len(gone), len(new)))
        names += gone
        names += new
    header = _header(update) | {
        "worker": update.worker_id,
        "incarnation": update.incarnation,
        "number": update.position.number,
        # As text, because Lua writes fewer digits of a number than it reads.
        "at": repr(update.position.at),
        "is_last": update.is_last_part,
        "degrades": update.degrades,
        "tiers": tiers,
        "ttl_ms": milliseconds(settings.ttl_seconds),
        "fence_ms": milliseconds(settings.fence_seconds),
        "lock_ms": milliseconds(settings.rebuild_lock_seconds),
        "max_holdings": settings.max_holdings,
        "max_rebuilds": settings.max_rebuilds,
    }
    return _encode(header), names


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _header(update: DirectoryUpdate | Rebuild) -> dict[str, Any]:
    if isinstance(update, Rebuild):
        return {"token": update.token, "is_first": update.is_first_part}
    return {"token": "", "first": update.first, "clears": update.clears}


def _by_tier(blocks: TierBlocks) -> dict[Tier, list[bytes]]:
    named: dict[Tier, list[bytes]] = {}
    for tier, name in blocks:
        named.setdefault(tier, []).append(name)
    return named
