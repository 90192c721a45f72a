"""The block directory is told what this worker holds, by its own engine's KV events."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq
import zmq.asyncio
from prometheus_client import CollectorRegistry

from twofold_cluster.kv_events import Happening
from twofold_cluster.kv_events.following import Follower, Source, source_of
from twofold_cluster.membership import FencedError, connect
from twofold_cluster.membership.entries import REDIS_IS_AWAY
from twofold_cluster.worker import Worker
from twofold_kvtransfer.directory import Directory, DirectorySettings, Feeder
from twofold_kvtransfer.directory.metrics import FeedCollector

_log = logging.getLogger(__name__)


class EngineEvents:
    """The events of one engine over ZMQ, as a feeder hears them."""

    def __init__(self, context: zmq.asyncio.Context, source: Source) -> None:
        self._context = context
        self._source = source

    async def follow(self, hear: Callable[[Happening], None]) -> None:
        """Tell *hear* of all that happens until cancelled.

        Raises:
            zmq.ZMQError: an endpoint is no address.
        """
        await Follower(self._context, self._source, hear).run()


async def feed_directory(
    redis_url: str | None,
    worker: Worker,
    *,
    max_holdings: int | None = None,
    registry: CollectorRegistry | None = None,
) -> None:
    """Keep the directory's entry of *worker* until cancelled; then the worker holds nothing.

    *max_holdings*: most that the whole directory lists; None: its own limit.
    *registry*: where to show meanwhile how that goes; None: nowhere.

    Without a Redis, or without KV events, there is nothing to do. A worker serves as well without
    an entry: what makes one impossible is logged, and ends this. Whether a newer incarnation ends
    the worker is the membership's to say.
    """
    source = source_of(worker)
    if redis_url is None or source is None:
        return
    context = zmq.asyncio.Context()
    try:
        async with connect(redis_url) as redis:
            directory = Directory(redis, worker.service, _settings(max_holdings))
            events = EngineEvents(context, source)
            feeder = Feeder(directory, worker.worker_id, worker.incarnation, events)
            with _shown(feeder, registry):
                await _feed(directory, worker, feeder)
    finally:
        context.destroy(linger=0)


def _settings(max_holdings: int | None) -> DirectorySettings:
    if max_holdings is None:
        return DirectorySettings()
    return DirectorySettings(max_holdings=max_holdings)


@contextmanager
def _shown(feeder: Feeder, registry: CollectorRegistry | None) -> Iterator[None]:
    if registry is None:
        yield
        return
    collector = FeedCollector(feeder.snapshot)
    registry.register(collector)
    try:
        yield
    finally:
        registry.unregister(collector)


async def _feed(directory: Directory, worker: Worker, feeder: Feeder) -> None:
    try:
        await feeder.run()
    except* FencedError as fenced:
        _log.warning("the block directory is not told any more: %s", fenced.exceptions[0])
    except* zmq.ZMQError as error:
        _log.warning("cannot follow the KV events of this engine: %s", error.exceptions[0])
    except* Exception:  # noqa: BLE001  the edge: a worker serves as well without an entry
        _log.exception("the block directory is not told any more")
    finally:
        await _forget(directory, worker)


async def _forget(directory: Directory, worker: Worker) -> None:
    """End the entry now and not by its time limit, which does it if Redis is away."""
    try:
        await directory.forget(worker.worker_id, worker.incarnation)
    except REDIS_IS_AWAY as error:
        _log.warning("cannot leave the block directory", extra={"error": repr(error)})
