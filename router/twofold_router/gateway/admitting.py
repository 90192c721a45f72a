"""Who a request is from, on which terms it is served, and whether its key may ask once more."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from twofold_router.access import (
    ANONYMOUS,
    Admission,
    Caller,
    Classes,
    Keyring,
    Limiter,
    Terms,
)

BYTES_PER_TOKEN = 4
"""Of an estimate that is settled when the engine has counted."""

EXPECTED_OUTPUT_TOKENS = 256
"""Reserved for an answer whose client has set no bound."""

_MEDIA = re.compile(rb'"data(?::[^",]{0,200};base64,|"\s*:\s*")')
"""What images and audio within a request begin with: OpenAI's URLs, and the fields ``data`` of
OpenAI's audio and of Anthropic's images."""


@dataclass(slots=True)
class Bill:
    """What one request is charged. ``used_tokens`` is to be set when it is known."""

    admission: Admission
    used_tokens: int | None = None


class Admitting:
    """The gateway's door."""

    def __init__(self, classes: Classes, keyring: Keyring | None, limiter: Limiter) -> None:
        """Without a *keyring* everybody is let in."""
        self._classes = classes
        self._keyring = keyring
        self._limiter = limiter

    def identify(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return who sends a request with *headers*.

        Raises:
            RequestError: nobody that we know.
        """
        if self._keyring is None:
            return ANONYMOUS
        return self._keyring.find(headers.get(b"authorization"), headers.get(b"x-api-key"))

    def terms(self, headers: Mapping[bytes, bytes], caller: Caller) -> Terms:
        """Return the terms for one request.

        Raises:
            RequestError: a header cannot be read.
        """
        terms = self._classes.resolve(headers, caller)
        if self._keyring is None and terms.flow is not None:
            # Whoever is in front of a router without keys is trusted to tell its tenants apart.
            return replace(terms, tenant=terms.flow)
        return terms

    async def charge(
        self, caller: Caller, body: bytes, max_output_tokens: int | None
    ) -> Bill | None:
        """Take one request from the limits of *caller*; None if it has none.

        Raises:
            RequestError: they are used up.
        """
        if caller.limits is None:
            return None
        expected = EXPECTED_OUTPUT_TOKENS if max_output_tokens is None else max_output_tokens
        tokens = _text_bytes(body) // BYTES_PER_TOKEN + expected
        return Bill(await self._limiter.admit(caller.name, caller.limits, tokens))

    def settle(self, bill: Bill) -> None:
        """Replace the estimate by what was used. What nobody has counted stays as estimated."""
        used = bill.used_tokens
        if used is not None:
            self._limiter.settle(bill.admission, used)


def _text_bytes(body: bytes) -> int:
    """Return the size of *body* without images and audio, whose tokens their bytes do not tell."""
    media_bytes = end = 0
    while (begins := _MEDIA.search(body, end)) is not None:
        end = body.find(b'"', begins.end())
        if end < 0:
            break
        media_bytes += end - begins.end()
    return len(body) - media_bytes
