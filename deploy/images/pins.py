"""Print the pins of constraints.txt, on standard input, of packages that are not installed here.

What stands beside vLLM in its image is pinned so, and leaves the packages that came with it alone.
"""

import re
import sys
from importlib.metadata import distributions


def _normalized(name: str) -> str:
    """Return the one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


installed = {_normalized(found.metadata["Name"]) for found in distributions()}
for line in sys.stdin:
    name, is_pin, _ = line.partition("==")
    if is_pin and not name.startswith("#") and _normalized(name) not in installed:
        sys.stdout.write(line)
