"""The engine that generates."""

from twofold_decode_worker.admission import ROLE

__all__ = ["ROLE"]
