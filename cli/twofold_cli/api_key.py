"""The API key of the user, for a cluster whose router asks for one (``--keys-file``)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from twofold_cli.errors import BadArgumentError

KEY_VARIABLE = "TWOFOLD_API_KEY"
KEY_FILE_OPTION = "--api-key-file"

_KEY = re.compile(r"[!-~]+")
"""What may stand in a header as it is."""


def wants_keys(router_args: Sequence[str]) -> bool:
    """Return True if a router with such arguments serves nobody without a key."""
    return any(argument.partition("=")[0] == "--keys-file" for argument in router_args)


def user_key(file: Path | None, environ: Mapping[str, str]) -> str | None:
    """Return the key in *file*, else the one in ``$TWOFOLD_API_KEY``; None if there is none.

    Raises:
        BadArgumentError: it cannot be read, or cannot be a key; the key is not repeated.
    """
    if file is None:
        key, source = environ.get(KEY_VARIABLE, ""), f"${KEY_VARIABLE}"
        if not key:
            return None
    else:
        source = f"{KEY_FILE_OPTION} {file}"
        try:
            key = file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            # An error of decoding repeats what it could not decode.
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise BadArgumentError(f"cannot read {source}: {reason}") from None
    if not _KEY.fullmatch(key):
        raise BadArgumentError(
            f"{source} must hold one key and nothing else: visible ASCII, without a space in it"
        )
    return key


def key_headers(key: str | None) -> dict[str, str]:
    """Return what a request with *key* has to carry; nothing without one."""
    return {} if key is None else {"authorization": f"Bearer {key}"}
