"""The API keys that are valid now."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Set
from hashlib import sha256
from pathlib import Path
from typing import Literal

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access.callers import Caller
from twofold_router.access.errors import InvalidAccessError
from twofold_router.access.key_file import parse_keys

LOOK_SECONDS = 1.0
"""How often the file is looked at. Looking needs no inotify, which network file systems and some
containers do not have, and follows the symlink that Kubernetes swaps when a Secret changes."""

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Some 60,000 keys; a Secret holds 1 MiB."""

MAX_KEY_BYTES = 512

_Stamp = tuple[int, ...]

_log = logging.getLogger(__name__)


class Keyring:
    """All keys of one file, none of them in plain.

    Invariant: the callers are those of the last version of the file that was valid as a whole.
    """

    def __init__(
        self,
        path: Path,
        class_names: Collection[str],
        *,
        on_change: Callable[[Set[str]], None] = lambda names: None,
        on_reload: Callable[[Literal["done", "failed"]], None] = lambda outcome: None,
    ) -> None:
        """Read *path*. *on_change* is told the names of all keys when another version is read, and
        *on_reload* what came of every attempt.

        Raises:
            InvalidAccessError: the file cannot be read or is not valid.
        """
        self._path = path
        self._class_names = frozenset(class_names)
        self._on_change = on_change
        self._on_reload = on_reload
        self._stamp = _stamp_of(path)
        self._callers = _read(path, self._class_names)

    def find(self, authorization: bytes | None, api_key: bytes | None) -> Caller:
        """Return whose key stands in ``Authorization: Bearer …``, or else in ``x-api-key``, where
        clients of Anthropic's API put it.

        The time this takes tells nothing about a key: what is compared is the SHA-256 of what was
        presented, so a guess that differs anywhere is compared as a random number, and to find
        another that agrees in more bytes is as hard as to invert the hash. Hashing costs less than
        a cache of headers would, which had to keep keys in plain.

        Raises:
            RequestError: there is no key, or it is not valid.
        """
        key = _bearer(authorization) or api_key
        if not key:
            raise RequestError(
                Fault.INVALID_API_KEY, "no API key: send the header Authorization: Bearer KEY"
            )
        caller = self._callers.get(sha256(key).digest()) if len(key) <= MAX_KEY_BYTES else None
        if caller is None:
            raise RequestError(Fault.INVALID_API_KEY, "the API key is not valid")
        return caller

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read the file again if it has changed. One that is not valid changes nothing, and is
        logged and counted once."""
        # In a thread: the disk may be slow, and 10,000 keys take half a second to parse.
        stamp = await asyncio.to_thread(_stamp_of, self._path)
        if stamp == self._stamp:
            return
        # Set before the reading, so that what is written during it is read at the next look.
        self._stamp = stamp
        try:
            callers = await asyncio.to_thread(_read, self._path, self._class_names)
        except InvalidAccessError as error:
            self._on_reload("failed")
            _log.warning("keys are not reloaded, the old ones stay", extra={"error": str(error)})
        else:
            self._replace(callers)

    def _replace(self, callers: dict[bytes, Caller]) -> None:
        self._callers = callers
        self._on_reload("done")
        self._on_change({caller.name for caller in callers.values()})
        _log.info("keys are reloaded", extra={"keys": len(callers)})


def _bearer(authorization: bytes | None) -> bytes:
    """Return the key of a bearer, empty for another scheme or none."""
    if authorization is None:
        return b""
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _stamp_of(path: Path) -> _Stamp | None:
    """Return what differs between two versions of a file, None while there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    # The time of change also tells of a copy that kept its time of modification.
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _read(path: Path, class_names: frozenset[str]) -> dict[bytes, Caller]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidAccessError(f"{path}: {error.strerror}") from error
    if len(text) > MAX_FILE_BYTES:
        raise InvalidAccessError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return parse_keys(text, class_names)
    except InvalidAccessError as error:
        raise InvalidAccessError(f"{path}: {error}") from error
