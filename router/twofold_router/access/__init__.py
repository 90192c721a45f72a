"""Who may ask, how much, and on which terms.

Keys and callers: ``Keyring``, ``Caller``, ``check_exposure``, ``is_origin``.
Limits: ``LocalLimiter``, ``SharedLimiter``. Classes: ``Classes``, which makes the ``Terms`` of a
request.
"""

from twofold_router.access.accounts import Accounts
from twofold_router.access.callers import ANONYMOUS, Caller, Limits
from twofold_router.access.classes import Classes, Terms
from twofold_router.access.errors import InvalidAccessError
from twofold_router.access.exposure import check_exposure, is_loopback
from twofold_router.access.keyring import Keyring
from twofold_router.access.limiting import Admission, Limiter, RateLimitedError
from twofold_router.access.local_limiting import LocalLimiter
from twofold_router.access.origins import ANY_ORIGIN, is_origin
from twofold_router.access.request_class import DEFAULT_CLASS, OnLate, RequestClass, parse_class
from twofold_router.access.shared_limiting import SharedLimiter

__all__ = [
    "ANONYMOUS",
    "ANY_ORIGIN",
    "DEFAULT_CLASS",
    "Accounts",
    "Admission",
    "Caller",
    "Classes",
    "InvalidAccessError",
    "Keyring",
    "Limiter",
    "Limits",
    "LocalLimiter",
    "OnLate",
    "RateLimitedError",
    "RequestClass",
    "SharedLimiter",
    "Terms",
    "check_exposure",
    "is_loopback",
    "is_origin",
    "parse_class",
]
