"""Smaller payloads for slow links: what can be coded how, and what to take when.

What is named here needs no torch. The coding itself is in ``codecs.coding``, which does.
"""

from twofold_kvtransfer.codecs.controller import (
    Choice,
    Controller,
    ControllerSettings,
    Link,
)
from twofold_kvtransfer.codecs.costs import DEFAULT_COSTS, CodecCost
from twofold_kvtransfer.codecs.errors import CannotQuantiseError, PayloadError, ShapeError
from twofold_kvtransfer.codecs.learning import Measured
from twofold_kvtransfer.codecs.names import QUALITY, CodecName, Quality
from twofold_kvtransfer.codecs.shape import KvShape, Packing

__all__ = [
    "DEFAULT_COSTS",
    "QUALITY",
    "CannotQuantiseError",
    "Choice",
    "CodecCost",
    "CodecName",
    "Controller",
    "ControllerSettings",
    "KvShape",
    "Link",
    "Measured",
    "Packing",
    "PayloadError",
    "Quality",
    "ShapeError",
]
