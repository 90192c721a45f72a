"""Doubles of what a router talks to: workers to announce, and engines without a model.

``workers`` does no I/O, so that pure tests can stand on it.
"""

from twofold_router.testing.answers import text_of
from twofold_router.testing.engine import FakeEngine, serve_engine
from twofold_router.testing.received import Received
from twofold_router.testing.workers import MODEL, make_worker

__all__ = [
    "MODEL",
    "FakeEngine",
    "Received",
    "make_worker",
    "serve_engine",
    "text_of",
]
