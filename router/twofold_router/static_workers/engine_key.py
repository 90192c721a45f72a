"""The API key of engines that were started with one (vLLM's ``--api-key``)."""

import re
from pathlib import Path

from twofold_router.http.headers import HeaderPairs
from twofold_router.static_workers.errors import InvalidEngineKeyError

KEY_VARIABLE = "TWOFOLD_ENGINE_API_KEY"
KEY_FILE_FLAG = "--engine-api-key-file"

_KEY = re.compile(r"[!-~]+")
"""What may stand in a header as it is."""


def read_engine_key(file: Path) -> str:
    """Read the key in *file*, which holds nothing else but space around it.

    Raises:
        InvalidEngineKeyError: there is no key in it, or more than one.
    """
    try:
        text = file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        # An error of decoding repeats what it could not decode.
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise InvalidEngineKeyError(f"cannot read {KEY_FILE_FLAG} {file}: {reason}") from None
    return check_engine_key(text.strip(), f"{KEY_FILE_FLAG} {file}")


def check_engine_key(key: str, source: str) -> str:
    """Return *key*, which stands in *source*, if it can be one.

    Raises:
        InvalidEngineKeyError: it cannot; the message names *source*, and does not repeat the key.
    """
    if not _KEY.fullmatch(key):
        raise InvalidEngineKeyError(
            f"{source} must hold one key and nothing else: visible ASCII, without a space in it"
        )
    return key


def engine_headers(key: str) -> HeaderPairs:
    """Return what a request to an engine with *key* has to carry; nothing without one."""
    return ((b"authorization", b"Bearer " + key.encode("ascii")),) if key else ()
