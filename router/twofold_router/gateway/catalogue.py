"""The names that clients may send as the model."""

from collections.abc import Iterable, Mapping

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker


class Catalogue:
    """Knows who serves what, whatever state they are in: a name whose workers all drain is one that
    nobody serves now, rather than one that does not exist.

    Made anew when it is asked for after a change, so that a request does not look at the workers.
    """

    def __init__(self, *, keeps_gone: bool = False) -> None:
        """*keeps_gone*: workers that are gone come back with the same id, as those that are given
        do, and the names they had stay known."""
        self._keeps_gone = keeps_gone
        self._told: dict[WorkerId, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._models: dict[str, str] | None = {}

    def follow(self, changed: Iterable[Worker], gone: Iterable[WorkerId]) -> None:
        """Take *changed* workers as they are now, and forget those that are *gone*, unless they
        are kept."""
        for worker in changed:
            told = ((worker.model, *worker.aliases), worker.adapters)
            if self._told.get(worker.worker_id) != told:
                self._told[worker.worker_id] = told
                self._models = None
        for worker_id in () if self._keeps_gone else gone:
            if self._told.pop(worker_id, None) is not None:
                self._models = None

    @property
    def models(self) -> Mapping[str, str]:
        """Return by each name, in order, the model behind it: itself, or what it adapts."""
        if self._models is None:
            told = set(self._told.values())
            adapted = {name: models[0] for models, adapters in told for name in adapters}
            named = adapted | {model: model for models, _ in told for model in models}
            self._models = dict(sorted(named.items()))
        return self._models
