"""Where a model's or an adapter's files are."""

import re
from dataclasses import dataclass
from typing import Literal

from twofold_operator.resources.errors import InvalidSpecError

Scheme = Literal["hf", "s3", "pvc", "oci", "path"]

_PATTERNS: dict[str, tuple[Scheme, re.Pattern[str], str]] = {
    "hf": (
        "hf",
        re.compile(r"(?P<location>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?P<path>)", re.ASCII),
        "hf://ORGANISATION/NAME",
    ),
    "s3": (
        "s3",
        re.compile(r"(?P<location>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<path>[^\s]+)"),
        "s3://BUCKET/PATH",
    ),
    "pvc": (
        "pvc",
        re.compile(r"(?P<location>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(/(?P<path>[^\s]*))?"),
        "pvc://CLAIM/PATH",
    ),
    "oci": (
        "oci",
        re.compile(r"(?P<location>[A-Za-z0-9][\w.:/@-]*[A-Za-z0-9])(?P<path>)", re.ASCII),
        "oci://REPOSITORY:TAG",
    ),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A source, taken apart. ``location`` is a repository, a bucket, a claim or an image;
    ``path`` is within it, without a slash before it, or absolute for the scheme ``path``."""

    scheme: Scheme
    location: str
    path: str


def parse_source(text: str, field: str) -> Source:
    """Take a source apart; *field* is where it was told.

    Raises:
        InvalidSpecError: it is of no form that we know.
    """
    if text.startswith("/"):
        return Source("path", "", _contained(text, text, field))
    name, separator, rest = text.partition("://")
    if not separator or name not in _PATTERNS:
        forms = ", ".join(form for _, _, form in _PATTERNS.values())
        raise InvalidSpecError(field, f"{text!r} is none of {forms} or an absolute path")
    scheme, pattern, form = _PATTERNS[name]
    match = pattern.fullmatch(rest)
    if not match:
        raise InvalidSpecError(field, f"{text!r} does not read {form}")
    return Source(scheme, match["location"], _contained(match["path"] or "", text, field))


def _contained(path: str, text: str, field: str) -> str:
    if ".." in path.split("/"):
        raise InvalidSpecError(field, f"{text!r} leads out of its place with '..'")
    return path
