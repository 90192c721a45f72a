"""Where a web page is from."""

import re

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


def is_origin(text: str) -> bool:
    """Tell whether *text* is an origin as browsers send it, or stands for all."""
    return text == ANY_ORIGIN or _ORIGIN.fullmatch(text) is not None
