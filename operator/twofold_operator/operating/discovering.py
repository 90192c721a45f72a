"""Which optional APIs the cluster has, and listing what the watches may have missed."""

import logging
from collections.abc import Collection, Mapping

from twofold_operator.cluster_api import (
    CHILDREN,
    OPTIONAL_CHILDREN,
    PODS,
    RESOURCES,
    ClusterApi,
    ClusterApiError,
    ForbiddenError,
    Kind,
    NotFoundError,
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
) -> Mapping[str, ClusterApiError]:
    """Hold what the API server lists of *kinds*; with *metrics*, count what was news.

    Returns what it said of each namespace that it does not list, as of one that is deleted, whose
    Role went first. What is held of such a namespace is not what there is.

    Raises:
        ClusterApiError: it cannot be asked, or does not list without a namespace.
    """
    if not namespaces:
        await _list_one(api, store, kinds, None, metrics)
    refused: dict[str, ClusterApiError] = {}
    for namespace in namespaces:
        try:
            await _list_one(api, store, kinds, namespace, metrics)
        except (ForbiddenError, NotFoundError) as error:
            refused[namespace] = error
    return refused


async def _list_one(
    api: ClusterApi,
    store: Store,
    kinds: Collection[Kind],
    namespace: str | None,
    metrics: OperatorMetrics | None,
) -> None:
    for kind in kinds:
        listed, version = await api.list_all(kind, namespace)
        differences = store.replace_all(kind, namespace, listed, version)
        if differences and metrics is not None:
            metrics.missed.labels(kind.plural).inc(differences)
            extra = {"resource": kind.plural, "count": differences}
            _log.warning("a listing brought what no watch had", extra=extra)
