"""One look at a worker: whether it can serve, what, and how busy it is."""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from twofold_router.static_workers.engine_metrics import EngineMetrics, read_engine_metrics
from twofold_router.static_workers.errors import ProbeFailedError, RefusedError

OK = 200


class Fetch(Protocol):
    """A GET, its answer read to the end."""

    async def __call__(self, origin: str, path: str, /) -> tuple[int, bytes]:
        """Return the status and the body.

        Raises:
            ConnectionRefusedError: nobody listens at *origin*.
            OSError: no answer, or not a whole one, for any other reason.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    model: str
    """The first name of the base model; further names are not told."""
    max_model_tokens: int | None
    version: str
    metrics: EngineMetrics
    adapters: tuple[str, ...] = ()


class _ModelCard(msgspec.Struct):
    id: str
    parent: str | None = None
    """The base model's name, if this is an adapter."""
    max_model_len: int | None = None


class _ModelList(msgspec.Struct):
    data: list[_ModelCard]


class _Version(msgspec.Struct):
    version: str


async def probe(fetch: Fetch, origin: str) -> Reading:
    """Ask the server at *origin*. A server without ``/metrics`` or ``/version`` will do.

    Raises:
        RefusedError: nobody listens there.
        ProbeFailedError: it is not healthy, or does not answer as a server of a model.
    """
    try:
        await _get(fetch, origin, "/health")
        cards = _models(await _get(fetch, origin, "/v1/models"))
        version_status, version = await fetch(origin, "/version")
        metrics_status, page = await fetch(origin, "/metrics")
    except ConnectionRefusedError as error:
        raise RefusedError(str(error)) from error
    except OSError as error:
        raise ProbeFailedError(repr(error)) from error
    base = _base_model(cards)
    return Reading(
        model=base.id,
        max_model_tokens=base.max_model_len,
        version=_version(version) if version_status == OK else "",
        metrics=read_engine_metrics(page) if metrics_status == OK else EngineMetrics(),
        adapters=tuple(sorted(card.id for card in cards if card.parent is not None)),
    )


async def _get(fetch: Fetch, origin: str, path: str) -> bytes:
    status, body = await fetch(origin, path)
    if status != OK:
        raise ProbeFailedError(f"{path} answered {status}")
    return body


def _models(body: bytes) -> list[_ModelCard]:
    try:
        return msgspec.json.decode(body, type=_ModelList).data
    except msgspec.MsgspecError as error:
        raise ProbeFailedError(f"/v1/models is no list of models: {error}") from error


def _base_model(cards: list[_ModelCard]) -> _ModelCard:
    for card in cards:
        if card.parent is None:
            return card
    raise ProbeFailedError("/v1/models names no base model")


def _version(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Version).version
    except msgspec.MsgspecError:
        return ""
