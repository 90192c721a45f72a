"""The shelves of the engines in this process, by engine id.

vLLM makes the connector once for the scheduler and once for each rank, and has them speak in the
engine's steps only. A peer looks at the prefix cache at any time. Of an engine of one rank vLLM has
both in one process, where they meet here; others have :mod:`twofold_kvtransfer.showing`.
"""

from twofold_kvtransfer.shelf import Shelf

_shelves: dict[str, Shelf] = {}


def put_up(engine_id: str, shelf: Shelf) -> None:
    _shelves[engine_id] = shelf


def find(engine_id: str) -> Shelf | None:
    """Return None while there is none, or where the scheduler is another process."""
    return _shelves.get(engine_id)
