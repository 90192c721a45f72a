"""One look at a worker: whether it can serve, what, and how busy it is."""

from dataclasses import dataclass
from typing import Protocol

import msgspec

from twofold_router.static_workers.engine_key import KEY_FILE_FLAG, KEY_VARIABLE
from twofold_router.static_workers.engine_metrics import EngineMetrics, read_engine_metrics
from twofold_router.static_workers.errors import ProbeFailedError, RefusedError

OK = 200
NOT_LET_IN = (401, 403)


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
    """The first name of the base model."""
    max_model_tokens: int | None
    version: str
    metrics: EngineMetrics
    aliases: tuple[str, ...] = ()
    """The further names, or what a server of several models calls the others."""
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
    base, *others = _base_models(cards)
    return Reading(
        model=base.id,
        max_model_tokens=base.max_model_len,
        version=_version(version) if version_status == OK else "",
        metrics=read_engine_metrics(page) if metrics_status == OK else EngineMetrics(),
        aliases=tuple(card.id for card in others),
        adapters=tuple(sorted(card.id for card in cards if card.parent is not None)),
    )


async def _get(fetch: Fetch, origin: str, path: str) -> bytes:
    status, body = await fetch(origin, path)
    if status in NOT_LET_IN:
        where = f"{KEY_VARIABLE} or the file of {KEY_FILE_FLAG}"
        raise ProbeFailedError(f"{path} answered {status}: put the engines' API key in {where}")
    if status != OK:
        raise ProbeFailedError(f"{path} answered {status}")
    return body


def _models(body: bytes) -> list[_ModelCard]:
    try:
        return msgspec.json.decode(body, type=_ModelList).data
    except msgspec.MsgspecError as error:
        raise ProbeFailedError(f"/v1/models is no list of models: {error}") from error


def _base_models(cards: list[_ModelCard]) -> list[_ModelCard]:
    """Return those that are no adapters, at least one."""
    models = [card for card in cards if card.parent is None]
    if not models:
        raise ProbeFailedError("/v1/models names no base model")
    return models


def _version(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Version).version
    except msgspec.MsgspecError:
        return ""
