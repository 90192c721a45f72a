"""The file of API keys: TOML, written by hand or rendered into a Secret by a chart.

.. code-block:: toml

    [[key]]
    name = "alice-laptop"            # in logs and metrics; unique
    hash = "sha256:9f86d0…"          # of the whole key, 64 hexadecimal digits
    tenant = "research"              # keys of one tenant share fairness and cached blocks
    class = "interactive"            # else "default"; it also caps the priority
    requests_per_minute = 600        # else no limit
    tokens_per_minute = 200_000      # else no limit
    models = ["qwen3-8b"]            # else all
    salt = "two-teams"               # else one made from the tenant; tenants whose entries have
                                     # the same salt share cached blocks;
                                     # the engines are sent a hash of it

TOML has comments and no indentation to get wrong, and a mistake in it is an error with its line.

A plain SHA-256 is enough because keys are random: there are 2^256 of them, so a stolen hash cannot
be turned back by guessing, however quick a guess is. Slow hashes are for passwords, and would cost
every request milliseconds. A key from elsewhere (``printf %s KEY | sha256sum``) must be as random.
"""

import re
import tomllib
from collections.abc import Collection
from typing import Annotated, Any

import msgspec

from twofold_router.access.callers import Caller, Limits, shared_salt, tenant_salt
from twofold_router.access.errors import InvalidAccessError
from twofold_router.access.request_class import DEFAULT_CLASS, NAME_PATTERN

MAX_PER_MINUTE = 1_000_000_000

HASH_PREFIX = "sha256:"

_Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
_Visible = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,256}\Z")]
_PerMinute = Annotated[int, msgspec.Meta(ge=1, le=MAX_PER_MINUTE)]


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One ``[[key]]`` as it stands in the file."""

    name: _Name
    hash: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    tenant: _Name
    class_name: _Name = msgspec.field(name="class", default=DEFAULT_CLASS)
    requests_per_minute: _PerMinute | None = None
    tokens_per_minute: _PerMinute | None = None
    models: Annotated[list[_Visible], msgspec.Meta(min_length=1)] | None = None
    salt: _Visible | None = None

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.hash.removeprefix(HASH_PREFIX))

    def caller(self) -> Caller:
        limits = Limits(self.requests_per_minute, self.tokens_per_minute)
        return Caller(
            name=self.name,
            tenant=self.tenant,
            salt=shared_salt(self.salt) if self.salt else tenant_salt(self.tenant),
            class_name=self.class_name,
            limits=None if limits == Limits() else limits,
            models=None if self.models is None else frozenset(self.models),
        )


def parse_keys(text: bytes, class_names: Collection[str]) -> dict[bytes, Caller]:
    """Read a whole file: its callers by the digests of their keys.

    Raises:
        InvalidAccessError: the message names the entry and the field.
    """
    callers: dict[bytes, Caller] = {}
    names: set[str] = set()
    for number, told in enumerate(_tables_of(text), 1):
        label = _label(told, number)
        entry = parse_entry(told, label)
        if entry.class_name not in class_names:
            known = ", ".join(sorted(class_names))
            raise InvalidAccessError(f"{label}, class: {entry.class_name!r} is none of {known}")
        if entry.name in names:
            raise InvalidAccessError(f"{label}, name: another entry has it")
        if (other := callers.get(entry.digest)) is not None:
            raise InvalidAccessError(f"{label}, hash: the key {other.name!r} has the same")
        names.add(entry.name)
        callers[entry.digest] = entry.caller()
    return callers


def parse_entry(told: object, label: str) -> KeyEntry:
    """Check one table of the file.

    Raises:
        InvalidAccessError: the message begins with *label* and names the field.
    """
    try:
        return msgspec.convert(told, KeyEntry)
    except msgspec.ValidationError as error:
        raise InvalidAccessError(f"{label}: {error}") from error


def _tables_of(text: bytes) -> list[Any]:
    try:
        document = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        # Not chained: a decoding error holds the text.
        raise InvalidAccessError(f"no TOML: {_first_line(error)}") from None
    if unknown := document.keys() - {"key"}:
        raise InvalidAccessError(f"unknown {sorted(unknown)}: all entries are tables [[key]]")
    tables = document.get("key")
    # A file that is being written is empty for a moment, and must not lock everybody out.
    if not isinstance(tables, list) or not tables:
        raise InvalidAccessError("there is no entry [[key]]")
    return tables


def _first_line(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return str(error)


def _label(told: object, number: int) -> str:
    name = told.get("name") if isinstance(told, dict) else None
    if isinstance(name, str) and re.match(NAME_PATTERN, name):
        return f"key {name!r} (entry {number})"
    return f"entry {number}"
