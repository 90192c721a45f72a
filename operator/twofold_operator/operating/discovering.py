"""Which optional APIs the cluster has, and listing what the watches may have missed."""

import logging
from collections.abc import Collection

from twofold_operator.cluster_api import (
    CHILDREN,
    OPTIONAL_CHILDREN,
    PODS,
    RESOURCES,
    ClusterApi,
    Kind,
    Store,
)
from twofold_operator.operating.metrics import OperatorMetrics

_log = logging.getLogger(__name__)

ALWAYS = (*RESOURCES, *CHILDREN, PODS)


async def find_optional(api: ClusterApi) -> tuple[Kind, ...]:
    """Return the optional kinds that the cluster serves at this moment.

    Raises:
        ClusterApiError: it cannot be asked.
    """
    return tuple([kind for kind in OPTIONAL_CHILDREN if await api.serves(kind)])


async def list_everything(
    api: ClusterApi,
    store: Store,
    kinds: Collection[Kind],
    namespaces: Collection[str],
    metrics: OperatorMetrics | None = None,
) -> None:
    """Hold what the API server lists of *kinds*; with *metrics*, count what was news.

    Raises:
        ClusterApiError: it cannot be asked.
    """
    for kind in kinds:
        for namespace in namespaces or (None,):
            listed, version = await api.list_all(kind, namespace)
            differences = store.replace_all(kind, namespace, listed, version)
            if differences and metrics is not None:
                metrics.missed.labels(kind.plural).inc(differences)
                extra = {"resource": kind.plural, "count": differences}
                _log.warning("a listing brought what no watch had", extra=extra)
