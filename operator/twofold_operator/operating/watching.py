"""kopf's part: watches of all kinds that are ours, in a thread with a loop of its own.

kopf keeps the watches alive, renews credentials and starts again after errors. Of its handlers
only those of raw events are used: they write nothing into the objects, neither annotations nor a
finalizer. It has its own thread because at its end it cancels all tasks of its loop.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any

import kopf

from twofold_cluster.errors import TwofoldError
from twofold_operator.cluster_api import Kind, label_selector
from twofold_operator.planning.observed import Manifest

_log = logging.getLogger(__name__)
_TALKATIVE = "kopf.objects"
"""Says of each event, with all settings, that our handler has had it."""

SERVER_SECONDS = 290
"""After this the API server ends a watch, and kopf begins the next where it ended."""
CLIENT_SECONDS = 320
"""After this kopf ends it, should the server not have done so: a connection may have died."""
CONNECT_SECONDS = 10
END_SECONDS = 15.0

Seen = Callable[[Kind, str | None, Manifest], None]
"""Is told the kind, the type of the event (None: found by the first listing) and the object."""


class WatchingEndedError(TwofoldError):
    """kopf ended though nobody asked it to."""


@asynccontextmanager
async def watching(
    kinds: Collection[Kind], namespaces: Collection[str], identity: str, seen: Seen
) -> "AsyncIterator[asyncio.Event]":
    """Watch *kinds* until the end of the block; *seen* is called in the caller's loop.

    The event is set when kopf has ended by itself.
    """
    logging.getLogger(_TALKATIVE).setLevel(logging.WARNING)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    stop = threading.Event()

    def tell(kind: Kind, event_type: str | None, manifest: Manifest) -> None:
        loop.call_soon_threadsafe(seen, kind, event_type, manifest)

    async def operate() -> None:
        try:
            await _operate(kinds, namespaces, identity, tell, stop)
        finally:
            if not stop.is_set():
                loop.call_soon_threadsafe(ended.set)
            # A thread of kopf's waits for it, and the end of this loop for that thread.
            stop.set()

    def run() -> None:
        try:
            asyncio.run(operate())
        except Exception:  # noqa: BLE001 whatever it is, this thread ends here
            _log.exception("the watches ended")

    thread = threading.Thread(target=run, name="watches", daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, END_SECONDS)
        if thread.is_alive():
            _log.warning("the watches do not end")


async def _operate(
    kinds: Iterable[Kind],
    namespaces: Collection[str],
    identity: str,
    tell: Seen,
    stop: threading.Event,
) -> None:
    await kopf.operator(
        registry=_registry(kinds, tell),
        settings=_settings(kinds),
        # Set, so that kopf does not look for the user's name, which a pod has not. Its type has no
        # public name.
        identity=identity,  # type: ignore[arg-type]
        standalone=True,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        stop_flag=stop,
    )


def _registry(kinds: Iterable[Kind], tell: Seen) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    # As the client of our own requests: a pod's account, or any kubeconfig that Kubernetes' client
    # reads. A registry of one's own has no such handler unless it is asked for.
    kopf.on.login(registry=registry, id="client")(kopf.login_via_client)
    for kind in kinds:

        def seen(type: str | None, event: Any, kind: Kind = kind, **_: Any) -> None:  # noqa: A002
            manifest = event["object"]
            tell(kind, type, {"apiVersion": kind.api_version, "kind": kind.kind} | manifest)

        kopf.on.event(kind.group, kind.version, kind.plural, id="seen", registry=registry)(seen)
    return registry


def _settings(kinds: Iterable[Kind]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.server_timeout = SERVER_SECONDS
    settings.watching.client_timeout = CLIENT_SECONDS
    settings.watching.connect_timeout = CONNECT_SECONDS
    settings.watching.reconnect_backoff = 1.0
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.process.ultimate_exiting_timeout = None
    for kind in kinds:
        if selector := label_selector(kind):
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return settings
